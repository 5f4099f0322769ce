"""An edit's colour map: a smooth map from the plate's colour to the painted one, fitted on the keyframe.

Where paint is a function of the plate's colour (a recolour, a grade, a glaze), the map gives every later frame's own
pixels their painted colour, so that the plate's texture and light survive. Where it is not (a mark of several colours,
a painted texture), the map is the best approximation, and its residual must be propagated by motion.

The map is a cubic polynomial of RGB (Finlayson, Mackiewicz, Hurlbert: Color correction using root-polynomial
regression, 2015, surveys such bases) plus a 3-D table for what the polynomial misses. The table's axes are lightness
and two opponent colours, finer towards grey, where hue and saturation edits turn fastest. It is filled from samples by
multi-scale scattered interpolation (Gortler et al.: The Lumigraph, 1996, "pull-push") and applied by OpenColorIO.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PyOpenColorIO as ocio
from numpy.typing import NDArray

SIZE = 33
"""Nodes of the table on each axis."""

_OPPONENT = np.array([[1 / 3, 1 / 3, 1 / 3], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]])
_STRIDES = np.array([SIZE * SIZE, SIZE, 1])
_SAMPLES = 24_000
_CANDIDATES = ((3, (0.05, 0.5, 5.0)), (1, (5.0, 100.0)), (0, (100.0,)))
"""(degree of the polynomial, weights of a coarser scale where samples are few), from the most to the least flexible."""

Colours = NDArray[np.float64]


@dataclass(frozen=True)
class ColourMap:
    """table: (SIZE, SIZE, SIZE, 3) float32, the change of a plate's colour. error: the RMS error on held-out paint."""

    table: NDArray[np.float32]
    error: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "_processor", _processor(self.table))

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """The painted colours of (..., 3) float32 display-encoded plate colours. Colours outside 0..1 are changed as
        the nearest colour inside is."""
        change = np.array(picture, np.float32, order="C")
        if change.size:
            self._processor.applyRGB(change)  # type: ignore[attr-defined]
        return np.asarray(picture + change, np.float32)


def fit(plate: NDArray[np.float32], painted: NDArray[np.float32], block: NDArray[np.int64]) -> ColourMap:
    """The map that takes plate colours to painted ones.

    plate, painted: (N, 3) float32. block: (N,) which block of the picture a sample lies in: the map's degree and
    stiffness are chosen by how well blocks with odd numbers are predicted from those with even ones, so that noise is
    not fitted."""
    if len(plate) == 0:
        return ColourMap(np.zeros((SIZE, SIZE, SIZE, 3), np.float32), 0.0)
    chosen = np.random.default_rng(0).permutation(len(plate))[:_SAMPLES]
    x = np.clip(plate[chosen], 0, 1).astype(np.float64)
    change = painted[chosen].astype(np.float64) - plate[chosen]
    held_out = block[chosen] % 2 == 1
    if held_out.all() or not held_out.any():
        held_out = np.arange(len(x)) % 2 == 1
    errors = []
    if held_out.any():
        nodes, answers = _corners(_encode(x[held_out])), change[held_out]
        for degree, stiffnesses in _CANDIDATES:
            trial = _Fit(x[~held_out], change[~held_out], degree)
            base = trial.polynomial(x[held_out])
            for stiffness in stiffnesses:
                error = base + _gather(trial.residual(stiffness), nodes) - answers
                errors.append((float((error**2).mean()), degree, stiffness))
    least, degree, stiffness = min(errors, key=lambda trial: trial[0], default=(0.0, 3, 5.0))
    return ColourMap(_Fit(x, change, degree).table(stiffness), float(np.sqrt(least)))


class _Fit:
    """A polynomial fit, and the table of its residual."""

    def __init__(self, x: Colours, change: Colours, degree: int) -> None:
        self._degree = degree
        basis = _basis(x, degree)
        penalty = 1e-5 * len(x) * np.eye(basis.shape[1])
        penalty[0, 0] = 1e-9
        self._coefficients = np.linalg.solve(basis.T @ basis + penalty, basis.T @ change)
        self._low, self._high = change.min(0) - 0.1, change.max(0) + 0.1
        self._scales = _scales(_corners(_encode(x)), change - self._clamped(basis))

    def _clamped(self, basis: Colours) -> Colours:
        """The polynomial, clamped to the range of the samples' change: it diverges where there were no samples."""
        return np.asarray(np.clip(basis @ self._coefficients, self._low, self._high))

    def polynomial(self, x: Colours) -> Colours:
        return self._clamped(_basis(x, self._degree))

    def residual(self, stiffness: float) -> NDArray[np.float32]:
        """A table (SIZE, SIZE, SIZE, 3) of the polynomial's residual: local means where samples are many, wider ones
        where they are few."""
        weight = np.float32(stiffness)
        planes = np.zeros((3, SIZE, SIZE, SIZE), np.float32)
        for level in reversed(self._scales):
            planes *= weight
            planes += level[:3]
            planes /= level[3] + weight
        return np.ascontiguousarray(np.moveaxis(planes, 0, -1))

    def table(self, stiffness: float) -> NDArray[np.float32]:
        axis = np.linspace(0.0, 1.0, SIZE)
        nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        values = self.polynomial(_decode(nodes)).reshape(SIZE, SIZE, SIZE, 3) + self.residual(stiffness)
        return values.astype(np.float32)


def _basis(x: Colours, degree: int) -> Colours:
    r, g, b = x.T
    columns = [np.ones_like(r)]
    if degree >= 1:
        columns += [r, g, b]
    if degree >= 3:
        squares = [r * r, g * g, b * b, r * g, r * b, g * b]
        rr, gg, bb, rg, *_ = squares
        columns += [*squares, rr * r, gg * g, bb * b, rr * g, rr * b, gg * r, gg * b, bb * r, bb * g, rg * b]
    return np.stack(columns).T


def _encode(x: Colours) -> Colours:
    """RGB 0..1 (N, 3) to the table's axes 0..1."""
    axes: Colours = x @ _OPPONENT.T
    chroma = axes[:, 1:]
    axes[:, 1:] = np.sign(chroma) * np.sqrt(np.abs(chroma) / 2) + 0.5
    return np.clip(axes, 0.0, 1.0)


def _decode(axes: Colours) -> Colours:
    """The inverse of `_encode`, clipped to RGB 0..1."""
    opponent = axes.copy()
    chroma = axes[:, 1:] - 0.5
    opponent[:, 1:] = np.sign(chroma) * chroma**2 * 2
    return np.clip(opponent @ np.linalg.inv(_OPPONENT).T, 0.0, 1.0)


Corners = list[tuple[NDArray[np.int64], Colours]]


def _corners(axes: Colours) -> Corners:
    """The eight nodes around each point: their flat index and trilinear weight."""
    scaled = axes * (SIZE - 1)
    base = np.clip(scaled.astype(np.int64), 0, SIZE - 2)
    (x, y, z), first = (scaled - base).T, base @ _STRIDES
    shares = ((1 - x, x), (1 - y, y), (1 - z, z))
    return [
        (first + np.array(corner) @ _STRIDES, shares[0][corner[0]] * shares[1][corner[1]] * shares[2][corner[2]])
        for corner in np.ndindex(2, 2, 2)
    ]


def _gather(table: NDArray[np.float32], nodes: Corners) -> Colours:
    flat = table.reshape(-1, 3)
    return np.asarray(sum(weight[:, None] * flat[index] for index, weight in nodes))


def _scales(nodes: Corners, values: Colours) -> list[NDArray[np.float32]]:
    """Scattered values splatted to their nodes, with the sum of weights as the fourth plane, (4, SIZE, SIZE, SIZE); and
    smoothed ever more widely."""
    sums = np.zeros((4, SIZE**3))
    for index, weight in nodes:
        for channel in range(3):
            sums[channel] += np.bincount(index, weight * values[:, channel], SIZE**3)
        sums[3] += np.bincount(index, weight, SIZE**3)
    scales = [sums.reshape(4, SIZE, SIZE, SIZE).astype(np.float32)]
    for smoothing in _SMOOTHINGS:
        wider = scales[-1] @ smoothing.T
        wider = smoothing @ wider
        wider = smoothing @ wider.reshape(4, SIZE, -1)
        scales.append(wider.reshape(scales[0].shape))
    return scales


def _smoothing(passes: int) -> NDArray[np.float32]:
    """(SIZE, SIZE): (1 2 1)/4 along an axis so many times, ends repeated, as one product."""
    once = (np.eye(SIZE, k=-1) + 2 * np.eye(SIZE) + np.eye(SIZE, k=1)) / 4
    once[0, 0] = once[-1, -1] = 0.75
    return np.linalg.matrix_power(once, passes).astype(np.float32)


_SMOOTHINGS = tuple(_smoothing(passes) for passes in (1, 2, 4, 8))


def _processor(table: NDArray[np.float32]) -> ocio.CPUProcessor:
    """OpenColorIO's processor: opponent axes, the curve that is finer towards grey, the table."""
    matrix = np.eye(4)
    matrix[:3, :3] = _OPPONENT
    axes = ocio.MatrixTransform(matrix.ravel().tolist(), [0.0, 0.5, 0.5, 0.0])
    curve = np.linspace(0.0, 1.0, 4097)
    bent = np.sign(curve - 0.5) * np.sqrt(np.abs(curve - 0.5) / 2) + 0.5
    shaper = ocio.Lut1DTransform(len(curve), False)
    shaper.setData(np.stack([curve, bent, bent], -1).astype(np.float32).ravel())
    cube = ocio.Lut3DTransform(SIZE)
    cube.setInterpolation(ocio.INTERP_TETRAHEDRAL)
    cube.setData(np.ascontiguousarray(table).ravel())
    group = ocio.GroupTransform([axes, shaper, cube])
    return ocio.Config.CreateRaw().getProcessor(group).getDefaultCPUProcessor()
