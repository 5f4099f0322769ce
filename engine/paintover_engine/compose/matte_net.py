"""A tiny network that keeps a matte on its object, trained in a second on the keyframe alone.

Given what a pixel looks like and where motion says the matte was, it answers how likely the pixel is inside. It is
MaskTrack's idea (Perazzi et al.: Learning Video Object Segmentation from Static Images, CVPR 2017): training pairs come
from one picture whose matte is deformed at random as imperfect motion would deform it; and few-shot training's
(Texler et al.: Interactive Video Stylization Using Few-Shot Patch-Based Training, SIGGRAPH 2020): no weights but the keyframe's.
So it learns for each shot whether colour and texture tell the edge, and leans on motion where they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import follow

Plane = NDArray[np.float32]

_HIDDEN = (32, 16)
_VARIANTS = 10
_PIXELS = 5000  # per variant
_STEPS = 400
_BATCH = 1024
_RATE = 0.01
_SLIP = 3.0  # how far motion is wrong in training, in pixels
_LIGHT = 0.05  # how much light changes in training
_PRIOR_PLANES = 6


def appearance(picture: NDArray[np.uint8]) -> list[Plane]:
    """What pixels of (h, w, 3) uint8 look like, by planes (h, w): CIE L*a*b* at four scales, contrast at two, edges."""
    lab = cielab(picture)
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


def cielab(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w, 3) uint8 sRGB to CIE L*a*b*, each about 0..1 or -1..1."""
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab / np.array([50, 40, 40], np.float32))


def _spread(planes: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Smoothed over about `scale` pixels, by way of a reduced picture."""
    height, width = planes.shape[:2]
    small = cv2.resize(planes, (-(-width // scale), -(-height // scale)), interpolation=cv2.INTER_AREA)
    small = cv2.blur(small, (3, 3), borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _prior_planes(prior: Plane, mismatch: Plane) -> list[Plane]:
    """What motion says: the matte moved to this frame, at four scales, and how wrong the moved picture is."""
    planes = [2 * plane - 1 for plane in (prior, *(_spread(prior, scale) for scale in (2, 5, 12)))]
    return [*planes, np.minimum(3 * mismatch, 2), np.minimum(3 * _spread(mismatch, 3), 2)]


@dataclass(frozen=True)
class MatteNet:
    """weights[i] (inputs, outputs) and biases[i] (outputs,) of each layer; float32."""

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        named = {f"weight{i}": weight for i, weight in enumerate(self.weights)}
        return named | {f"bias{i}": bias for i, bias in enumerate(self.biases)}

    @staticmethod
    def from_tensors(tensors: Mapping[str, NDArray[np.float32]]) -> MatteNet:
        layers = range(len(_HIDDEN) + 1)
        return MatteNet(tuple(tensors[f"weight{i}"] for i in layers), tuple(tensors[f"bias{i}"] for i in layers))

    def __call__(self, looks: list[Plane], prior: Plane, mismatch: Plane, where: NDArray[np.bool_]) -> Plane:
        """Log-odds (h, w) that a pixel is inside the matte; -9 outside `where`.

        looks: from `appearance`; prior: the matte moved to this frame, 0..1; mismatch: how much the picture moved the same
        way differs here, in `cielab`'s units."""
        chosen = np.flatnonzero(where)
        odds = np.full(where.size, -9.0, np.float32)
        if len(chosen):
            planes = looks + _prior_planes(prior, mismatch)
            rows = np.stack([plane.ravel()[chosen] for plane in planes])
            odds[chosen] = self._forward(rows)
        return odds.reshape(where.shape)

    def _forward(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """(features, N) -> (N,)"""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            columns = weight.T @ columns
            columns += bias[:, None]
            np.maximum(columns, 0, out=columns)
        return np.asarray((self.weights[-1].T @ columns + self.biases[-1][:, None])[0])


def train(picture: NDArray[np.uint8], matte: Plane) -> MatteNet:
    """The network for a keyframe's plate (h, w, 3) uint8 and its matte (h, w) 0..1; the same for the same input."""
    rng = np.random.default_rng(0)
    features, inside = _examples(picture, matte, rng)
    mean, scale = features.mean(0), features.std(0) + 0.05
    net = _Trainer((features.shape[1], *_HIDDEN, 1), rng)
    features = (features - mean) / scale
    for step in range(_STEPS):
        batch = rng.integers(0, len(features), _BATCH)
        net.step(features[batch], inside[batch], _RATE * (1 - 0.9 * step / _STEPS))
    first = net.weights[0] / scale[:, None]
    return MatteNet((first, *net.weights[1:]), (net.biases[0] - mean @ first, *net.biases[1:]))


def _examples(
    picture: NDArray[np.uint8], matte: Plane, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, F) and labels (N,) of pixels under many imperfect motions."""
    looks = np.stack(appearance(picture), -1).reshape(matte.size, -1)
    lab = cielab(picture)
    weight = _importance(matte)
    features, inside = [], []
    for variant in range(_VARIANTS):
        slip = _slip(matte.shape, rng)
        prior = follow(matte, slip)
        if variant % 2:
            prior = cv2.GaussianBlur(prior, (0, 0), rng.uniform(0.5, 2))
        mismatch = np.linalg.norm(lab - follow(lab, slip), axis=-1) + np.float32(abs(rng.normal(0, 0.03)))
        chosen = rng.choice(matte.size, _PIXELS, p=weight)
        seen = _relit(looks[chosen], rng)
        planes = _prior_planes(prior, mismatch)
        features.append(np.concatenate([seen, np.stack([p.ravel()[chosen] for p in planes], -1)], -1))
        inside.append(matte.ravel()[chosen])
    return np.concatenate(features).astype(np.float32), np.concatenate(inside)


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


def _relit(looks: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Appearance under somewhat other light."""
    relit = looks * np.float32(1 + rng.normal(0, _LIGHT))
    tint = rng.normal(0, _LIGHT, 3) * (1, 0.3, 0.3)
    relit[:, :12] += np.tile(tint, 4).astype(np.float32)
    return np.asarray(relit)


class _Trainer:
    """A fully connected network with rectifiers, logistic loss and Adam (Kingma, Ba: Adam, 2015)."""

    def __init__(self, widths: tuple[int, ...], rng: np.random.Generator) -> None:
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.weights = [rng.normal(0, np.sqrt(2 / a), (a, b)).astype(np.float32) for a, b in pairs]
        self.biases = [np.zeros(b, np.float32) for _, b in pairs]
        self._first = [np.zeros_like(p) for p in self.weights + self.biases]
        self._second = [np.zeros_like(p) for p in self.weights + self.biases]
        self._steps = 0

    def step(self, features: NDArray[np.float32], inside: NDArray[np.float32], rate: float) -> None:
        layers = [features]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            layers.append(np.maximum(layers[-1] @ weight + bias, 0))
        odds = (layers[-1] @ self.weights[-1] + self.biases[-1])[:, 0]
        slope = ((1 / (1 + np.exp(-odds)) - inside) / len(inside))[:, None].astype(np.float32)
        weights, biases = [], []
        for index in reversed(range(len(self.weights))):
            weights.insert(0, layers[index].T @ slope)
            biases.insert(0, slope.sum(0))
            if index:
                slope = (slope @ self.weights[index].T) * (layers[index] > 0)
        self._adam(weights + biases, rate)

    def _adam(self, slopes: list[NDArray[np.float32]], rate: float) -> None:
        self._steps += 1
        for i, (value, slope) in enumerate(zip(self.weights + self.biases, slopes, strict=True)):
            self._first[i] = 0.9 * self._first[i] + 0.1 * slope
            self._second[i] = 0.99 * self._second[i] + 0.01 * slope * slope
            first = self._first[i] / (1 - 0.9**self._steps)
            second = self._second[i] / (1 - 0.99**self._steps)
            value -= np.float32(rate) * (first / (np.sqrt(second) + 1e-8) + 1e-4 * value)
