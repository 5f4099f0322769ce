"""A small network that segments the edited object in each frame, trained in a second on the keyframe alone.

From a pixel's appearance and the motion-compensated matte of the frame before it predicts how likely the pixel is
inside. As in MaskTrack (Perazzi et al.: Learning Video Object Segmentation from Static Images, CVPR 2017), training
pairs come from one picture whose matte is deformed at random as imperfect motion would deform it; as in few-shot
training (Texler et al.: Interactive Video Stylization Using Few-Shot Patch-Based Training, SIGGRAPH 2020), there are no
weights but the keyframe's. So it learns for each shot whether colour and texture show the edge, and relies on motion
where they do not.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.analysis_frame import Lab, distances
from paintover_engine.compose.flow import Array, Field, affine_motion, magnitudes, warp
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.planes import planes_of

Arrays = list[NDArray[np.float32]]

_HIDDEN = (32, 16)
_VARIANTS = 12  # at the keyframe's own size, and as many at others
_SIZES = 6
_PIXELS = 2500  # per variant
_STEPS = 400
_BATCH = 1024
_RATE = 0.01
_DISPLACEMENT = 5.0  # error of the motion in training, in pixels
_RESIZED = 0.4  # how much nearer or farther the object may be, as a natural logarithm
_MOTION_PLANES = 7
_REHEARSED = 8192  # examples of the keyframe that are mixed into every later training
_NEW = 256  # pixels of the surroundings that a frame adds to the training, with half as many of the object
_NEW_FRAMES = 12  # frames whose pixels are remembered
_NEW_STEPS = 3
_NEW_RATE = 0.002
_CORRECTED_STEPS = 30  # for a frame that the artist corrected
_PIXEL = 1e-3  # of motion, which is none
_BORROWED = 0.3  # share of new pixels that are trained with another example's prior


@dataclass(frozen=True)
class NetWeights:
    """weights: (inputs, outputs) float32 of each layer; biases: (outputs,) float32."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class TrainedNet:
    """A network trained on a keyframe, and examples to train it further with.

    mean, scale: (F,) float32, by which features are normalised. examples: (N, F) float16, normalised features; inside:
    (N,) float16, 1 inside the matte."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    examples: NDArray[np.float16]
    inside: NDArray[np.float16]
    layers: NetWeights


def appearance(lab: Lab) -> list[Plane]:
    """Features of the pixels' appearance, as planes (h, w): CIE L*a*b* at four scales, local standard deviation at two,
    mean gradients."""
    planes = planes_of(lab)
    blurred = {scale: _smooth(lab, scale) for scale in (2, 4, 10)}
    for scale in blurred:
        planes += planes_of(blurred[scale])
    light = planes[0]
    for scale in (4, 10):
        variance = _smooth(light * light, scale) - blurred[scale][..., 0] ** 2
        planes.append(3 * np.sqrt(np.maximum(variance, 0)))
    for dx, dy in ((1, 0), (0, 1)):
        planes.append(_smooth(np.abs(cv2.Sobel(light, cv2.CV_32F, dx, dy)), 4))
    return planes


def _smooth(planes: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Planes (h, w[, c]) smoothed over about `scale` pixels, computed on a reduced picture."""
    height, width = planes.shape[:2]
    small = cv2.resize(planes, (-(-width // scale), -(-height // scale)), interpolation=cv2.INTER_AREA)
    small = cv2.blur(small, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def object_motion(backward: Field, prior: Plane) -> Field:
    """(h, w, 2): the affine motion nearest to the flow in a matte. backward, prior: as of `RelativeMotion.of`."""
    return affine_motion(backward, prior, robust=True, pitch=3)


@dataclass(frozen=True)
class RelativeMotion:
    """How a frame's pixels move beside an object and its surroundings, each side by the affine motion nearest to its
    flow.

    around, inside: (h, w) >= 0, pixels by which the flow differs from the surroundings' motion, and from the object's;
    plane: (h, w) -1..1, whether it is as theirs (-1) or as the object's (1): 0 where both fit equally, as where nothing
    moves."""

    around: Plane
    inside: Plane
    plane: Plane

    @staticmethod
    def of(backward: Field, prior: Plane, own: Field | None = None) -> RelativeMotion:
        """backward: (h, w, 2), the flow from this frame to the one before; prior: (h, w), the matte warped to this
        frame. own: `object_motion`, where it is known."""
        around = magnitudes(backward - affine_motion(backward, 1 - prior, robust=True, pitch=6))
        inside = magnitudes(backward - (object_motion(backward, prior) if own is None else own))
        return RelativeMotion(around, inside, np.asarray(np.tanh((around - inside) / 2), np.float32))

    @property
    def with_object(self) -> Plane:
        """(h, w) 0..1: how plainly pixels move as the object does, and not as its surroundings."""
        explained = 1 - np.minimum(self.inside / (self.around + np.float32(_PIXEL)), 1)
        return np.asarray(np.maximum(self.plane, 0) * explained, np.float32)


def motion_plane(backward: Field, prior: Plane, own: Field | None = None) -> Plane:
    """`RelativeMotion.plane`. backward, prior, own: as of `RelativeMotion.of`."""
    return RelativeMotion.of(backward, prior, own).plane


class MatteNet:
    """The network, which is trained further as frames go by. layers: those to start from; None: the keyframe's."""

    def __init__(self, trained: TrainedNet, layers: NetWeights | None = None) -> None:
        self._mean, self._scale = trained.mean[:, None], trained.scale[:, None]
        self._examples, self._inside = trained.examples, trained.inside
        layers = layers or trained.layers
        self._trainer = _Trainer(list(layers.weights), list(layers.biases))
        self._new: deque[tuple[NDArray[np.float32], NDArray[np.float32]]] = deque(maxlen=_NEW_FRAMES)

    def layers(self) -> NetWeights:
        """The weights and biases as they are now."""
        return NetWeights(tuple(self._trainer.weights), tuple(self._trainer.biases))

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
        """Trains on a frame's confident pixels, mixed with the keyframe's so that those are not forgotten: what comes
        into view far from the matte is surroundings (Voigtlaender, Leibe: Online Adaptation of Convolutional Neural
        Networks for Video Object Segmentation, BMVC 2017). planes: from `feature_planes`."""
        far, core = np.flatnonzero(outside), np.flatnonzero(inside)
        if len(far) >= _NEW and len(core) >= _NEW // 4:
            self._train(planes, far, core, rng, _NEW_STEPS)

    def correct(
        self, planes: list[Plane], outside: NDArray[np.bool_], inside: NDArray[np.bool_], rng: np.random.Generator
    ) -> None:
        """Trains on the pixels of a frame that the artist says are outside and inside, however few; on nothing where
        either has none."""
        wrong, right = np.flatnonzero(outside), np.flatnonzero(inside)
        if len(wrong) and len(right):
            self._train(planes, wrong, right, rng, _CORRECTED_STEPS)

    def _train(
        self,
        planes: list[Plane],
        far: NDArray[np.int64],
        core: NDArray[np.int64],
        rng: np.random.Generator,
        steps: int,
    ) -> None:
        """Trains on a frame's pixels outside (`far`) and inside (`core`), remembers a sample of them, and rehearses the
        keyframe's and those remembered."""
        chosen = np.concatenate([rng.choice(far, _NEW), rng.choice(core, _NEW // 2)])
        features = self._features(planes, chosen).T
        # Confident pixels have an easy prior; with another example's, the net must classify them by appearance.
        replaced = rng.random(len(chosen)) < _BORROWED
        borrowed = rng.integers(0, len(self._examples), int(replaced.sum()))
        features[replaced, -_MOTION_PLANES:] = self._examples[borrowed, -_MOTION_PLANES:]
        labels = (np.arange(len(chosen)) >= _NEW).astype(np.float32)
        self._new.append((features, labels))
        for _ in range(steps):
            rehearsed = rng.integers(0, len(self._examples), _BATCH // 2)
            features, labels = self._new[rng.integers(0, len(self._new))]
            batch = np.concatenate([self._examples[rehearsed].astype(np.float32), features])
            inside = np.concatenate([self._inside[rehearsed].astype(np.float32), labels])
            self._trainer.step(batch, inside, _NEW_RATE)

    def _features(self, planes: list[Plane], chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """(F, N), normalised."""
        rows = np.stack([plane.ravel().take(chosen) for plane in planes])
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


def feature_planes(frame: Lab, warped: Lab, prior: Plane, motion: Plane) -> list[Plane]:
    """The network's input, planes (h, w): the frame's appearance, and what motion compensation gives.

    warped: the frame before, warped onto this one by flow; prior: its matte, warped the same way; motion: from
    `motion_plane`."""
    return appearance(frame) + _motion_planes(frame, warped, prior, motion)


def _motion_planes(frame: Lab, warped: Lab, prior: Plane, motion: Plane) -> list[Plane]:
    """`_MOTION_PLANES` planes: the warped matte at four scales, the warped picture's error at two, and `motion`."""
    error = distances(frame, warped)
    planes = [2 * plane - 1 for plane in (prior, *(_smooth(prior, scale) for scale in (2, 5, 12)))]
    return [*planes, np.minimum(3 * error, 2), np.minimum(3 * _smooth(error, 3), 2), motion]


@dataclass(frozen=True)
class Shown:
    """What a keyframe shows of an edit. picture: its plate; matte: (h, w) 0..1, where it is painted; backward:
    (h, w, 2), the flow from it to a neighbouring frame."""

    picture: Lab
    matte: Plane
    backward: Field


def train(*keyframes: Shown) -> TrainedNet:
    """The network of one keyframe, or of several that show the same edit; deterministic."""
    rng = np.random.default_rng(0)
    examples = [_examples(key.picture, key.matte, motion_plane(key.backward, key.matte), rng) for key in keyframes]
    features, inside = (np.concatenate(parts) for parts in zip(*examples, strict=True))
    mean, scale = features.mean(0), features.std(0) + np.float32(0.05)
    features = (features - mean) / scale
    widths = (features.shape[1], *_HIDDEN, 1)
    pairs = list(itertools.pairwise(widths))
    weights = [rng.normal(0, np.sqrt(2 / a), (a, b)).astype(np.float32) for a, b in pairs]
    trainer = _Trainer(weights, [np.zeros(b, np.float32) for _, b in pairs])
    for step in range(_STEPS):
        batch = rng.integers(0, len(features), _BATCH)
        trainer.step(features.take(batch, 0), inside[batch], _RATE * (1 - 0.9 * step / _STEPS))
        if step >= _STEPS // 2:
            trainer.accumulate()
    rehearsed = rng.choice(len(features), _REHEARSED)
    remembered, labels = features[rehearsed].astype(np.float16), inside[rehearsed].astype(np.float16)
    return TrainedNet(mean, scale, remembered, labels, trainer.averaged())


def _examples(
    picture: Lab, matte: Plane, motion: Plane, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, F) and labels (N,) of pixels under many imperfect motions and sizes; in every third, `motion` is 0:
    the object moves as its surroundings do."""
    features, inside = [], []
    sizes = np.exp(rng.uniform(-_RESIZED, _RESIZED, _SIZES))
    for size, variants in ((1.0, _VARIANTS), *((float(size), _VARIANTS // _SIZES) for size in sizes)):
        frame, label, moves = (_resized(picture, size), _resized(matte, size), _resized(motion, size))
        looks, importance = appearance(frame), _importance(label).cumsum()
        importance /= importance[-1]
        for variant in range(variants):
            error = _motion_error(label.shape, rng)
            prior = warp(label, error)
            if size != 1.0:
                prior = cv2.GaussianBlur(prior, (0, 0), rng.uniform(0.5, 2))
            shown = moves * np.float32(variant % 3 != 0)
            planes = looks + _motion_planes(frame, warp(frame, error), prior, shown)
            chosen = importance.searchsorted(rng.random(_PIXELS), side="right")  # as `rng.choice` would
            features.append(np.stack([plane.ravel().take(chosen) for plane in planes], -1))
            inside.append(label.ravel()[chosen])
    return np.concatenate(features), np.concatenate(inside)


def _resized(picture: Array, factor: float) -> Array:
    if factor == 1.0:
        return picture
    size = tuple(max(8, round(side * factor)) for side in picture.shape[1::-1])
    resized: Array = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    return resized


def _importance(matte: Plane) -> NDArray[np.float64]:
    """(h · w,): each pixel's probability of being a training example: mostly near the matte and its edge, however small
    it is."""
    near = cv2.GaussianBlur(matte, (0, 0), 10) > 0.02
    edge = np.abs(matte - cv2.GaussianBlur(matte, (0, 0), 3)) > 0.05
    share = max(float(matte.mean()), 1e-3)
    weight = 0.1 + near + (matte > 0.5) * min(10.0, 0.3 / share) + 3.0 * edge
    return np.asarray(weight.ravel() / weight.sum(), np.float64)


def _motion_error(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth random displacement (h, w, 2): an error that flow may have."""
    error = np.zeros((*shape, 2), np.float32)
    for pitch, reach in ((60, rng.uniform(0.2, 1.5)), (16, rng.uniform(0.0, 0.7))):
        nodes = rng.normal(0, _DISPLACEMENT * reach, (max(2, shape[0] // pitch), max(2, shape[1] // pitch), 2))
        error += cv2.resize(nodes.astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return error + rng.normal(0, 0.3 * _DISPLACEMENT, 2).astype(np.float32)


class _Trainer:
    """A fully connected network with rectifiers, logistic loss, Adam (Kingma, Ba: Adam, 2015) and averaged weights
    (Polyak, Juditsky: Acceleration of stochastic approximation by averaging, 1992).

    All weights and biases are copied into one vector, so that a step is few operations."""

    def __init__(self, weights: Arrays, biases: Arrays) -> None:
        self._shapes = [value.shape for value in (*weights, *biases)]
        self._vector = np.concatenate([value.ravel() for value in (*weights, *biases)])
        self.weights, self.biases = self._parts(self._vector)
        self._gradient, self._first, self._second, self._sum = (np.zeros_like(self._vector) for _ in range(4))
        self._gradients = self._parts(self._gradient)
        self._steps = self._summed = 0

    def _parts(self, vector: NDArray[np.float32]) -> tuple[Arrays, Arrays]:
        """Weights and biases as views of a vector."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        views = [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), self._shapes, strict=True)]
        return views[: len(views) // 2], views[len(views) // 2 :]

    def accumulate(self) -> None:
        """Counts the present weights in the average."""
        self._summed += 1
        self._sum += self._vector

    def averaged(self) -> NetWeights:
        """The mean of the weights and of the biases at each `accumulate`."""
        weights, biases = self._parts(np.asarray(self._sum / self._summed, np.float32))
        return NetWeights(tuple(weights), tuple(biases))

    def step(self, features: NDArray[np.float32], inside: NDArray[np.float32], rate: float) -> None:
        """One step of Adam on a batch: features (N, F), inside (N,) 0..1."""
        layers = [features]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            layer = layers[-1] @ weight
            layer += bias
            layers.append(np.maximum(layer, 0, out=layer))
        odds = (layers[-1] @ self.weights[-1] + self.biases[-1])[:, 0]
        gradient = ((1 / (1 + np.exp(-np.clip(odds, -30, 30))) - inside) / len(inside))[:, None].astype(np.float32)
        ones = np.ones(len(gradient), np.float32)
        for index in reversed(range(len(self.weights))):
            np.matmul(layers[index].T, gradient, out=self._gradients[0][index])
            np.matmul(ones, gradient, out=self._gradients[1][index])
            if index:
                gradient = gradient @ self.weights[index].T
                gradient *= np.sign(layers[index])  # 0 or 1
        self._adam(rate)

    def _adam(self, rate: float) -> None:
        self._steps += 1
        self._first += np.float32(0.1) * (self._gradient - self._first)
        self._second += np.float32(0.01) * (self._gradient * self._gradient - self._second)
        first = self._first / np.float32(1 - 0.9**self._steps)
        second = self._second / np.float32(1 - 0.99**self._steps)
        self._vector -= np.float32(rate) * (first / (np.sqrt(second) + np.float32(1e-8)) + 1e-4 * self._vector)
