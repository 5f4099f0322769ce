"""A tiny network that keeps a matte on its object, trained in a second on the keyframe alone.

Given what a pixel looks like and where motion says the matte was, it answers how likely the pixel is inside. It is
MaskTrack's idea (Perazzi et al.: Learning Video Object Segmentation from Static Images, CVPR 2017): training pairs come
from one picture whose matte is deformed at random as imperfect motion would deform it; and few-shot training's
(Texler et al.: Interactive Video Stylization Using Few-Shot Patch-Based Training, SIGGRAPH 2020): no weights but the
keyframe's. So it learns for each shot whether colour and texture tell the edge, and leans on motion where they do not.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Array, Field, affine_motion, follow, lengths
from paintover_engine.compose.matte import Plane

Lab = NDArray[np.float32]
"""(h, w, 3) CIE L*a*b* as `cielab` gives it."""
Arrays = list[NDArray[np.float32]]

_HIDDEN = (32, 16)
_VARIANTS = 12  # at the keyframe's own size, and as many at others
_SIZES = 6
_PIXELS = 2500  # per variant
_STEPS = 400
_BATCH = 1024
_RATE = 0.01
_SLIP = 5.0  # how far motion is wrong in training, in pixels
_RESIZED = 0.4  # how much nearer or farther the thing may be, as a natural logarithm
_PRIOR_PLANES = 7
_KEPT = 8192  # examples of the keyframe that are learned again with every frame
_LESSON = 256  # pixels of the surroundings that a frame adds, with half as many of the thing
_LESSONS = 12  # frames whose pixels are remembered
_LESSON_STEPS = 3
_LESSON_RATE = 0.002
_UNSURE = 0.3


def appearance(lab: Lab) -> list[Plane]:
    """What the pixels of a picture look like, by planes (h, w): CIE L*a*b* at four scales, contrast at two, edges."""
    planes = list(cv2.split(lab))
    blurred = {scale: _spread(lab, scale) for scale in (2, 4, 10)}
    for scale in blurred:
        planes += cv2.split(blurred[scale])
    light = planes[0]
    for scale in (4, 10):
        variance = _spread(light * light, scale) - blurred[scale][..., 0] ** 2
        planes.append(3 * np.sqrt(np.maximum(variance, 0)))
    for dx, dy in ((1, 0), (0, 1)):
        planes.append(_spread(np.abs(cv2.Sobel(light, cv2.CV_32F, dx, dy)), 4))
    return planes


def cielab(picture: NDArray[np.uint8]) -> Lab:
    """(h, w, 3) uint8 sRGB to CIE L*a*b*, each about 0..1 or -1..1."""
    lab = cv2.cvtColor(picture.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)
    lab *= np.array([1 / 50, 1 / 40, 1 / 40], np.float32)
    return np.asarray(lab)


def _spread(planes: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Smoothed over about `scale` pixels, by way of a reduced picture."""
    height, width = planes.shape[:2]
    small = cv2.resize(planes, (-(-width // scale), -(-height // scale)), interpolation=cv2.INTER_AREA)
    small = cv2.blur(small, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def motion_plane(home: Field, prior: Plane) -> Plane:
    """-1..1 (h, w): whether a pixel moves as its surroundings do (-1) or as the thing in the matte does (1).

    home: (h, w, 2), the flow from this frame to the last; prior: (h, w), the matte moved to this frame. Each side's
    motion is the affine one nearest to its flow; what both fit equally, as where nothing moves, is 0."""
    around = lengths(home - affine_motion(home, 1 - prior, robust=True, pitch=6))
    inside = lengths(home - affine_motion(home, prior, robust=True, pitch=3))
    return np.asarray(np.tanh((around - inside) / 2), np.float32)


class MatteNet:
    """The network, and what it needs to go on learning: examples of the keyframe.

    tensors: mean, scale (F,) of the features; examples (N, F), normalised, and inside (N,); weight0…, bias0…; all
    float32 but the examples, which are float16.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        self._mean, self._scale = tensors["mean"][:, None], tensors["scale"][:, None]
        self._examples = tensors["examples"].astype(np.float32)
        self._inside = tensors["inside"].astype(np.float32)
        layers = range(len(_HIDDEN) + 1)
        self._trainer = _Trainer(
            [tensors[f"weight{i}"].copy() for i in layers], [tensors[f"bias{i}"].copy() for i in layers]
        )
        self._lessons: deque[tuple[NDArray[np.float32], NDArray[np.float32]]] = deque(maxlen=_LESSONS)

    def learned(self) -> dict[str, NDArray[np.float32]]:
        """The weights and biases as they are now."""
        return _named(self._trainer.weights, self._trainer.biases)

    def odds(self, planes: list[Plane], where: NDArray[np.bool_]) -> Plane:
        """Log-odds (h, w) that a pixel is inside the matte; -9 outside `where`. planes: from `feature_planes`."""
        chosen = np.flatnonzero(where)
        odds = np.full(where.size, -9.0, np.float32)
        if len(chosen):
            odds[chosen] = self._forward(self._features(planes, chosen))
        return odds.reshape(where.shape)

    def learn(
        self, planes: list[Plane], outside: NDArray[np.bool_], inside: NDArray[np.bool_], rng: np.random.Generator
    ) -> None:
        """Goes on learning from a frame's sure pixels, among the keyframe's so that they are not forgotten: what comes
        into frame far from the matte is surroundings (Voigtlaender, Leibe: Online adaptation of CNNs for VOS, 2017)."""
        far, deep = np.flatnonzero(outside), np.flatnonzero(inside)
        if len(far) < _LESSON or len(deep) < _LESSON // 4:
            return
        chosen = np.concatenate([rng.choice(far, _LESSON), rng.choice(deep, _LESSON // 2)])
        features = self._features(planes, chosen).T
        # Sure pixels have an easy prior; with the prior of other examples, the net must tell them by their looks.
        unsure = rng.random(len(chosen)) < _UNSURE
        borrowed = rng.integers(0, len(self._examples), int(unsure.sum()))
        features[unsure, -_PRIOR_PLANES:] = self._examples[borrowed, -_PRIOR_PLANES:]
        labels = (np.arange(len(chosen)) >= _LESSON).astype(np.float32)
        self._lessons.append((features, labels))
        for _ in range(_LESSON_STEPS):
            known = rng.integers(0, len(self._examples), _BATCH // 2)
            features, labels = self._lessons[rng.integers(0, len(self._lessons))]
            batch = np.concatenate([self._examples[known], features])
            self._trainer.step(batch, np.concatenate([self._inside[known], labels]), _LESSON_RATE)

    def _features(self, planes: list[Plane], chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """(F, N), normalised."""
        rows = np.stack([plane.ravel()[chosen] for plane in planes])
        rows -= self._mean
        rows /= self._scale
        return rows

    def _forward(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """(F, N) -> (N,)"""
        weights, biases = self._trainer.weights, self._trainer.biases
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            columns = weight.T @ columns
            columns += bias[:, None]
            np.maximum(columns, 0, out=columns)
        return np.asarray((weights[-1].T @ columns + biases[-1][:, None])[0])


def _named(weights: Arrays, biases: Arrays) -> dict[str, NDArray[np.float32]]:
    return {f"weight{i}": w for i, w in enumerate(weights)} | {f"bias{i}": b for i, b in enumerate(biases)}


def feature_planes(now: Lab, moved: Lab, prior: Plane, motion: Plane) -> list[Plane]:
    """What the network sees of a frame: how it looks, and what motion says.

    now: the frame's picture; moved: the last frame's, moved onto it by flow; prior: the last frame's matte, moved the
    same way; motion: from `motion_plane`."""
    return appearance(now) + _motion_planes(now, moved, prior, motion)


def _motion_planes(now: Lab, moved: Lab, prior: Plane, motion: Plane) -> list[Plane]:
    """What motion says: the matte moved to this frame, at four scales, how wrong the moved picture is, and what moves
    along."""
    light, green, blue = cv2.split(now - moved)
    mismatch = np.sqrt(light * light + green * green + blue * blue)
    planes = [2 * plane - 1 for plane in (prior, *(_spread(prior, scale) for scale in (2, 5, 12)))]
    return [*planes, np.minimum(3 * mismatch, 2), np.minimum(3 * _spread(mismatch, 3), 2), motion]


def train(picture: Lab, matte: Plane, home: Field) -> dict[str, NDArray[np.float32]]:
    """A `MatteNet`'s tensors for a keyframe; the same for the same input.

    picture: its plate; matte: (h, w) 0..1; home: (h, w, 2), the flow from it to a neighbouring
    frame."""
    rng = np.random.default_rng(0)
    features, inside = _examples(picture, matte, motion_plane(home, matte), rng)
    mean, scale = features.mean(0), features.std(0) + np.float32(0.05)
    features = (features - mean) / scale
    widths = (features.shape[1], *_HIDDEN, 1)
    pairs = list(itertools.pairwise(widths))
    weights = [rng.normal(0, np.sqrt(2 / a), (a, b)).astype(np.float32) for a, b in pairs]
    trainer = _Trainer(weights, [np.zeros(b, np.float32) for _, b in pairs])
    for step in range(_STEPS):
        batch = rng.integers(0, len(features), _BATCH)
        trainer.step(features[batch], inside[batch], _RATE * (1 - 0.9 * step / _STEPS))
        if step >= _STEPS // 2:
            trainer.keep()
    kept = rng.choice(len(features), _KEPT)
    examples = {"examples": features[kept].astype(np.float16), "inside": inside[kept].astype(np.float16)}
    return {"mean": mean, "scale": scale, **examples, **_named(*trainer.averaged())}


def _examples(
    picture: Lab, matte: Plane, motion: Plane, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, F) and labels (N,) of pixels under many imperfect motions and sizes; in some, motion tells
    nothing."""
    features, inside = [], []
    sizes = np.exp(rng.uniform(-_RESIZED, _RESIZED, _SIZES))
    for size, variants in ((1.0, _VARIANTS), *((float(size), _VARIANTS // _SIZES) for size in sizes)):
        now, label, moves = (_resized(picture, size), _resized(matte, size), _resized(motion, size))
        looks, importance = appearance(now), _importance(label)
        for variant in range(variants):
            slip = _slip(label.shape, rng)
            prior = follow(label, slip)
            if size != 1.0:
                prior = cv2.GaussianBlur(prior, (0, 0), rng.uniform(0.5, 2))
            told = moves * np.float32(variant % 3 != 0)
            planes = looks + _motion_planes(now, follow(now, slip), prior, told)
            chosen = rng.choice(label.size, _PIXELS, p=importance)
            features.append(np.stack([plane.ravel()[chosen] for plane in planes], -1))
            inside.append(label.ravel()[chosen])
    return np.concatenate(features), np.concatenate(inside)


def _resized(picture: Array, factor: float) -> Array:
    if factor == 1.0:
        return picture
    size = tuple(max(8, round(side * factor)) for side in picture.shape[1::-1])
    resized: Array = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return resized


def _importance(matte: Plane) -> NDArray[np.float64]:
    """How often a pixel is a training example: mostly near the matte and its edge, however small it is."""
    near = cv2.GaussianBlur(matte, (0, 0), 10) > 0.02
    edge = np.abs(matte - cv2.GaussianBlur(matte, (0, 0), 3)) > 0.05
    share = max(float(matte.mean()), 1e-3)
    weight = 0.1 + near + (matte > 0.5) * min(10.0, 0.3 / share) + 3.0 * edge
    return np.asarray(weight.ravel() / weight.sum(), np.float64)


def _slip(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth random motion (h, w, 2): what the flow may get wrong."""
    slip = np.zeros((*shape, 2), np.float32)
    for pitch, reach in ((60, rng.uniform(0.2, 1.5)), (16, rng.uniform(0.0, 0.7))):
        nodes = rng.normal(0, _SLIP * reach, (max(2, shape[0] // pitch), max(2, shape[1] // pitch), 2))
        slip += cv2.resize(nodes.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return slip + rng.normal(0, 0.3 * _SLIP, 2).astype(np.float32)


class _Trainer:
    """A fully connected network with rectifiers, logistic loss, Adam (Kingma, Ba: Adam, 2015) and averaged weights
    (Polyak, Juditsky: Acceleration of stochastic approximation by averaging, 1992).

    All weights and biases lie in one vector, so that a step is few operations."""

    def __init__(self, weights: Arrays, biases: Arrays) -> None:
        self._shapes = [value.shape for value in (*weights, *biases)]
        self._vector = np.concatenate([value.ravel() for value in (*weights, *biases)])
        self.weights, self.biases = self._parts(self._vector)
        self._slope, self._first, self._second, self._sum = (np.zeros_like(self._vector) for _ in range(4))
        self._slopes = self._parts(self._slope)
        self._steps = self._kept = 0

    def _parts(self, vector: NDArray[np.float32]) -> tuple[Arrays, Arrays]:
        """Weights and biases as views of a vector."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        views = [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), self._shapes, strict=True)]
        return views[: len(views) // 2], views[len(views) // 2 :]

    def keep(self) -> None:
        """Counts the present weights in the average."""
        self._kept += 1
        self._sum += self._vector

    def averaged(self) -> tuple[Arrays, Arrays]:
        """The mean of the weights and of the biases that were kept."""
        return self._parts(np.asarray(self._sum / self._kept, np.float32))

    def step(self, features: NDArray[np.float32], inside: NDArray[np.float32], rate: float) -> None:
        layers = [features]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            layers.append(np.maximum(layers[-1] @ weight + bias, 0))
        odds = (layers[-1] @ self.weights[-1] + self.biases[-1])[:, 0]
        slope = ((1 / (1 + np.exp(-np.clip(odds, -30, 30))) - inside) / len(inside))[:, None].astype(np.float32)
        for index in reversed(range(len(self.weights))):
            np.matmul(layers[index].T, slope, out=self._slopes[0][index])
            np.matmul(np.ones(len(slope), np.float32), slope, out=self._slopes[1][index])
            if index:
                slope = slope @ self.weights[index].T
                slope *= layers[index] > 0
        self._adam(rate)

    def _adam(self, rate: float) -> None:
        self._steps += 1
        self._first += np.float32(0.1) * (self._slope - self._first)
        self._second += np.float32(0.01) * (self._slope * self._slope - self._second)
        first = self._first / np.float32(1 - 0.9**self._steps)
        second = self._second / np.float32(1 - 0.99**self._steps)
        self._vector -= np.float32(rate) * (first / (np.sqrt(second) + np.float32(1e-8)) + 1e-4 * self._vector)
