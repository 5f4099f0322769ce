"""A frame as it is drawn, back to front, and the flat layers of the world in it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_evaluation.rendering.scene import Scene, SceneFrame
from paintover_evaluation.rendering.surfaces import Surface
from paintover_evaluation.textures.canvas import Area, Field, Picture, noise


class View:
    """Plate, truth and matte of one frame, painted back to front, and the camera that sees them."""

    def __init__(self, scene: Scene, time: float, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.plate = np.zeros((height, width, 3), np.float32)
        self.truth: Field | None = None  # the plate, until the first edit
        self.matte = np.zeros((height, width), np.float32)
        camera = scene.camera
        hand = _hand(scene.seed, time)
        self.x = camera.x(time) + camera.shake * hand[0]
        self.y = camera.y(time) + camera.shake * hand[1]
        self.scale = height * camera.zoom(time)
        self.roll = camera.shake * 0.6 * hand[2]

    def matrix(self, parallax: float) -> NDArray[np.float64]:
        """(3, 3): from a point of the world at this parallax to a point of the frame (0, 0 its upper left corner)."""
        cos, sin = self.scale * np.cos(self.roll), self.scale * np.sin(self.roll)
        x, y = parallax * self.x, parallax * self.y
        return np.array(
            [
                [cos, -sin, self.width / 2 - cos * x + sin * y],
                [sin, cos, self.height / 2 - sin * x - cos * y],
                [0, 0, 1],
            ]
        )

    def window(self, corners: NDArray[np.float64]) -> tuple[int, int, int, int] | None:
        """The frame's pixels that may be covered (left, top, right, bottom), or None outside it."""
        left, top = np.floor(corners.min(axis=0)).astype(int) - 1
        right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 1
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, self.width), min(bottom, self.height)
        return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None

    def draw(
        self,
        window: tuple[int, int, int, int],
        plate: Field,
        alpha: Field,
        truth: Field | None = None,
        matte: Field | None = None,
    ) -> None:
        """Lays premultiplied colours (h, w, 3) 0..255 with coverage `alpha` (h, w) 0..1 over a window of the frame."""
        left, top, right, bottom = window
        part = np.s_[top:bottom, left:right]
        through = (1 - alpha)[..., None]
        if truth is not None and self.truth is None:
            self.truth = self.plate.copy()
        for canvas, colour in ((self.plate, plate), (self.truth, truth if truth is not None else plate)):
            if canvas is not None:
                canvas[part] *= through
                canvas[part] += colour
        if self.truth is not None:
            self.matte[part] *= through[..., 0]
        if matte is not None:
            self.matte[part] += matte

    @staticmethod
    def mean(views: Sequence[View]) -> View:
        """What is exposed while the scene looks like each of some views, all of one size, for as long."""
        exposed = copy.copy(views[0])
        share = np.float32(1 / len(views))
        exposed.plate = np.asarray(sum(view.plate for view in views) * share)
        exposed.matte = np.asarray(sum(view.matte for view in views) * share)
        if any(view.truth is not None for view in views):
            exposed.truth = np.asarray(sum(view.plate if view.truth is None else view.truth for view in views) * share)
        return exposed

    def defocus(self, radius: float) -> None:
        """Blurs all of it. radius: standard deviation, in pixels."""
        if radius < 0.1:
            return
        self.plate, self.matte = (cv2.GaussianBlur(each, (0, 0), radius) for each in (self.plate, self.matte))
        if self.truth is not None:
            self.truth = cv2.GaussianBlur(self.truth, (0, 0), radius)

    def develop(self, grain: Field, noise: float, seed: int) -> SceneFrame:
        """Adds the sensor's noise, the same in plate and truth, and quantises. grain: of standard deviation 1; noise:
        that of the sensor's, in 8-bit levels."""
        rng = np.random.default_rng(seed)
        down, across = rng.integers(0, grain.shape[0] - self.height), rng.integers(0, grain.shape[1] - self.width)
        sensor = grain[down : down + self.height, across : across + self.width] * np.float32(noise)
        plate = _quantised(self.plate, sensor)
        if self.truth is None:
            return SceneFrame(plate, plate.copy(), self.matte, plate.copy())
        self.matte[self.matte < 1 / 512] = 0
        np.minimum(self.matte, 1, out=self.matte)
        truth, painted = _quantised(self.truth, sensor), _quantised(self.truth, sensor * (1 - self.matte)[..., None])
        for edited in (truth, painted):
            cv2.copyTo(plate, (self.matte == 0).astype(np.uint8), edited)
        return SceneFrame(plate, truth, self.matte, painted)


def _quantised(canvas: Field, noise: Field) -> NDArray[np.uint8]:
    noisy = cv2.add(canvas, noise)
    cv2.max(noisy, (0.0, 0.0, 0.0, 0.0), dst=noisy)
    return np.asarray(cv2.convertScaleAbs(noisy))


@functools.lru_cache(maxsize=4)
def grain(seed: int, width: int, height: int) -> Field:
    """Noise somewhat larger than the frame; each frame shows another part of it."""
    rng = np.random.default_rng([seed, 99])
    return rng.standard_normal((height + 64, width + 64, 3), dtype=np.float32)


def _hand(seed: int, time: float) -> NDArray[np.float64]:
    """Three smooth signals of about -1..1: how an operator's hands move the camera."""
    phases = np.random.default_rng([seed, 98]).uniform(0, 2 * np.pi, (3, 3))
    speeds = np.array([7.0, 12.7, 23.0])
    return np.asarray((np.sin(speeds * time + phases) * (0.6, 0.3, 0.14)).sum(axis=1))


def draw_layer(view: View, surface: Surface, parallax: float, light: Field | None = None) -> None:
    """A flat picture of the world; `light` (H, W, 1) multiplies it."""
    rows, columns = surface.plate.shape[:2]
    to_world = np.array(
        [[1 / surface.density, 0, surface.x], [0, 1 / surface.density, surface.y], [0, 0, 1]]
    )  # from a corner of a texel
    to_frame = view.matrix(parallax) @ to_world
    corners = cv2.perspectiveTransform(np.array([[[0.0, 0], [columns, 0], [columns, rows], [0, rows]]]), to_frame)[0]
    window = view.window(corners)
    if window is not None:
        draw_warped(view, surface, to_frame, window, light)


def draw_warped(
    view: View,
    surface: Surface,
    to_frame: NDArray[np.float64],
    window: tuple[int, int, int, int],
    light: Field | float | None,
    finer: int = 1,
) -> None:
    """Draws a surface through a homography, `finer` times supersampled."""
    left, top, right, bottom = window
    to_window = np.array([[finer, 0, -finer * left - 0.5], [0, finer, -finer * top - 0.5], [0, 0, 1]])
    from_texel = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = to_window @ to_frame @ from_texel
    size = ((right - left) * finer, (bottom - top) * finer)

    def warp(picture: Picture) -> Field:
        seen = cv2.warpPerspective(picture, matrix, size, flags=cv2.INTER_LINEAR)
        if finer > 1:
            seen = cv2.resize(seen, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        return np.asarray(seen, np.float32)

    plate = warp(surface.plate)
    truth = None if surface.truth is None else warp(surface.truth)
    matte = None if surface.matte is None else warp(surface.matte) / np.float32(255)
    has_alpha = plate.shape[2] == 4
    alpha = plate[..., 3] / np.float32(255) if has_alpha else np.ones(plate.shape[:2], np.float32)
    gain = light[top:bottom, left:right] if isinstance(light, np.ndarray) else np.float32(1 if light is None else light)
    view.draw(
        window,
        plate[..., :3] * gain,
        alpha,
        None if truth is None else truth[..., :3] * gain,
        None if matte is None else matte * alpha,
    )


def cloud_shadows(view: View, scene: Scene, time: float, parallax: float) -> Field:
    """(H, W, 1) the shadows of clouds that drift over the land."""
    field_ = _cloud_field(scene.seed)
    rows = 24  # shadows are soft: few samples tell them
    small = np.diag([rows / view.height, rows / view.height, 1.0])
    drift = np.array([[22.0, 0, 96 + 14 * time], [0, 60.0, 72 + 4 * time], [0, 0, 1]])
    matrix = small @ view.matrix(parallax) @ np.linalg.inv(drift)
    columns = max(2, round(rows * view.width / view.height))
    seen = cv2.warpPerspective(field_, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    shadows: Field = cv2.resize(seen, (view.width, view.height), interpolation=cv2.INTER_CUBIC)
    return shadows[..., None]


@functools.lru_cache(maxsize=8)
def _cloud_field(seed: int) -> Field:
    drifting = noise(np.random.default_rng([seed, 97]), Area(192, 144, 1), 20, 3)
    cover = cv2.GaussianBlur(np.clip((drifting - 0.42) * 5, 0, 1), (0, 0), 2.0)
    return np.asarray(1.06 - 0.34 * cover, np.float32)
