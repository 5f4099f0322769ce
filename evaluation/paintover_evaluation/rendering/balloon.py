"""Draws the balloon: a surface of revolution, seen from the side."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_evaluation.rendering.scene import SUN, Balloon
from paintover_evaluation.rendering.surfaces import Surface
from paintover_evaluation.rendering.view import View, draw_warped
from paintover_evaluation.textures.balloon import PROFILE_ALONG, PROFILE_RADIUS, PROFILE_SLOPE
from paintover_evaluation.textures.canvas import Field, Picture


def draw_balloon(view: View, balloon: Balloon, found: dict[str, Surface], time: float) -> None:
    """Draws the balloon with its basket. found: the scene's surfaces by name; time: 0..1."""
    radius, tilt = balloon.radius(time), balloon.tilt(time)
    cos, sin = radius * np.cos(tilt), radius * np.sin(tilt)
    to_world = np.array([[cos, -sin, balloon.x(time)], [sin, cos, balloon.y(time)], [0, 0, 1]])
    to_frame = view.matrix(balloon.parallax) @ to_world
    _draw_basket(view, found["basket"], to_frame)
    corners = cv2.perspectiveTransform(np.array([[[-1.0, -1], [1, -1], [1, 1.32], [-1, 1.32]]]), to_frame)[0]
    window = view.window(corners)
    if window is None:
        return
    finer = 2
    p, q = _local(window, to_frame, finer)
    position = (q + 1) * np.float32(511 / 2.32)
    level = np.zeros_like(position)

    def at_height(table: Field) -> Field:
        seen = cv2.remap(table[None, :], position, level, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(seen, np.float32)

    wide = np.maximum(at_height(PROFILE_RADIUS), 1e-3)
    across = np.clip(p / wide, -1, 1)
    surface = found["balloon"]
    map_x = (np.arcsin(across) + np.float32(np.pi + balloon.turn(time))) * np.float32(surface.density) - 0.5
    map_y = at_height(PROFILE_ALONG) * np.float32(surface.density) - 0.5
    slope = at_height(PROFILE_SLOPE)
    texels = np.float32(np.hypot(to_frame[0, 0], to_frame[1, 0]) * finer)
    edge = (wide - np.abs(p)) / np.sqrt(1 + np.minimum(slope * slope, 9)) * texels
    inside = np.minimum(np.minimum((q + 1) * texels, (1.32 - q) * texels), edge)
    alpha = np.clip(inside + 0.5, 0, 1)
    facing = np.sqrt(1 - across * across)
    steep = np.sqrt(1 + slope * slope)
    toward = (across * np.float32(SUN[0]) + facing * np.float32(SUN[2]) - slope * np.float32(SUN[1])) / steep
    glow = 1 + 0.05 * np.sin(6.0 * time)  # the burner and the passing haze
    shade = np.clip(np.float32(0.6 * glow) + np.float32(0.52) * toward, 0.3, 1.2) * (0.86 + 0.14 * facing) * alpha
    size = (window[2] - window[0], window[3] - window[1])

    def seen(picture: Picture, gain: Field) -> Field:
        colour = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        lit = colour * (gain[..., None] if colour.ndim == 3 else gain)
        return np.asarray(cv2.resize(lit, size, interpolation=cv2.INTER_AREA), np.float32)

    view.draw(
        window,
        seen(surface.plate, shade),
        cv2.resize(alpha, size, interpolation=cv2.INTER_AREA),
        None if surface.truth is None else seen(surface.truth, shade),
        None if surface.matte is None else seen(surface.matte, alpha) / np.float32(255),
    )


def _local(window: tuple[int, int, int, int], to_frame: NDArray[np.float64], finer: int) -> tuple[Field, Field]:
    """An object's own coordinates (p, q) of every sample of a window, `finer` samples a pixel each way."""
    left, top, right, bottom = window
    back = np.linalg.inv(to_frame)
    x = (left + (np.arange((right - left) * finer) + 0.5) / finer)[None, :]
    y = (top + (np.arange((bottom - top) * finer) + 0.5) / finer)[:, None]
    p = (back[0, 0] * x + back[0, 1] * y + back[0, 2]).astype(np.float32)
    q = (back[1, 0] * x + back[1, 1] * y + back[1, 2]).astype(np.float32)
    return p, q


def _draw_basket(view: View, surface: Surface, to_frame: NDArray[np.float64]) -> None:
    hung = to_frame @ np.array(
        [[1 / surface.density, 0, -0.4], [0, 1 / surface.density, 1.28], [0, 0, 1]]
    )  # below the mouth
    rows, columns = surface.plate.shape[:2]
    corners = cv2.perspectiveTransform(np.array([[[0.0, 0], [columns, 0], [columns, rows], [0, rows]]]), hung)[0]
    window = view.window(corners)
    if window is not None:
        draw_warped(view, surface, hung, window, None, finer=2)
