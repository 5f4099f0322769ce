"""Draws the bus: a box in weak perspective."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_evaluation.rendering.scene import SUN, Bus
from paintover_evaluation.rendering.surfaces import Surface
from paintover_evaluation.rendering.view import View, draw_warped
from paintover_evaluation.textures.bus import BUS_HEIGHT, BUS_LENGTH, BUS_WIDTH
from paintover_evaluation.textures.canvas import Field, vector

PITCH = 0.2  # the camera looks down on the road by this angle
DISTANCE = 7.0  # of the camera, in bus heights

# Each face's picture: its upper left, upper right, lower right and lower left corner on the box (signs of x, y, z).
FACES = {
    "side": ((-1, -1, -1), (1, -1, -1), (1, 1, -1), (-1, 1, -1)),
    "other side": ((1, -1, 1), (-1, -1, 1), (-1, 1, 1), (1, 1, 1)),
    "front": ((1, -1, -1), (1, -1, 1), (1, 1, 1), (1, 1, -1)),
    "back": ((-1, -1, 1), (-1, -1, -1), (-1, 1, -1), (-1, 1, 1)),
    "roof": ((-1, -1, 1), (1, -1, 1), (1, -1, -1), (-1, -1, -1)),
}


def _bus_points(view: View, bus: Bus, time: float, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the box (signs, y -1 at the roof and 1 at the road) to the frame, (N, 2)."""
    half = np.array([BUS_LENGTH, BUS_HEIGHT, BUS_WIDTH]) / 2
    bounce = 0.006 * np.sin(60 * time)
    x, y, z = ((points * half) - np.array([0, half[1] + bounce, 0])).T
    yaw = bus.yaw(time)
    x, z = x * np.cos(yaw) - z * np.sin(yaw), x * np.sin(yaw) + z * np.cos(yaw)
    y, z = y * np.cos(PITCH) - z * np.sin(PITCH), y * np.sin(PITCH) + z * np.cos(PITCH)
    size = bus.size(time) / (1 + z / DISTANCE)
    world = np.stack([bus.x(time) + x * size, bus.y(time) + y * size], -1)
    return np.asarray(cv2.perspectiveTransform(world[None], view.matrix(bus.parallax))[0])


def shade_bus(view: View, bus: Bus, time: float, light: Field) -> None:
    """Darkens the light on the ground under and beside the bus, in place."""
    ring = np.linspace(0, 2 * np.pi, 25)[:-1]
    foot = np.stack([1.1 * np.cos(ring) + 0.12, np.full_like(ring, 0.92), 1.25 * np.sin(ring) - 0.1], -1)
    points = _bus_points(view, bus, time, foot)
    spread = max(2.0, 0.07 * bus.size(time) * view.scale)
    window = view.window(np.concatenate([points - 3 * spread, points + 3 * spread]))
    if window is None:
        return
    left, top, right, bottom = window
    shadow = np.zeros((bottom - top, right - left), np.uint8)
    outline = np.round((points - (left, top)) * 16).astype(np.int32)
    cv2.fillPoly(shadow, [outline], 255, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(shadow, (0, 0), spread).astype(np.float32) / np.float32(255)
    light[top:bottom, left:right] *= (1 - np.float32(0.62) * soft)[..., None]


def draw_bus(view: View, bus: Bus, found: dict[str, Surface], time: float) -> None:
    """Draws the faces of the bus that the camera sees. found: the scene's surfaces by name; time: 0..1."""
    corners = _bus_points(view, bus, time, np.array(list(FACES["side"]) + list(FACES["other side"]), np.float64))
    whole = view.window(corners)
    if whole is None:
        return
    _draw_core(view, bus, time)
    for name, signs in FACES.items():
        target = _bus_points(view, bus, time, np.array(signs, np.float64))
        ahead, down = target[1] - target[0], target[3] - target[0]
        window = view.window(target)
        if ahead[0] * down[1] - ahead[1] * down[0] <= 0 or window is None:
            continue  # its back is turned
        rows, columns = found[name].plate.shape[:2]
        source = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
        to_frame = cv2.getPerspectiveTransform(source, target.astype(np.float32))
        draw_warped(view, found[name], to_frame, window, _face_light(name, bus.yaw(time), time), finer=2)


def _draw_core(view: View, bus: Bus, time: float) -> None:
    """A dull body just inside the box, so that no background shows through the seams between its faces."""
    inset = np.array([(x, y, z) for x in (-0.93, 0.93) for y in (-0.94, 0.6) for z in (-0.9, 0.9)])
    points = _bus_points(view, bus, time, inset)
    window = view.window(points)
    if window is None:
        return
    left, top, right, bottom = window
    hull = cv2.convexHull(np.round((points - (left, top)) * 16).astype(np.int32))
    core = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillConvexPoly(core, hull, 255, cv2.LINE_AA, 4)
    alpha = core.astype(np.float32) / np.float32(255)
    view.draw(window, alpha[..., None] * vector(bus.coat.upper) * np.float32(0.6), alpha)


def _face_light(name: str, yaw: float, time: float) -> float:
    """Sunlight on a face: 0.55 turned away to about 1.1 turned to the sun."""
    normals = {"side": (0, 0, 1), "other side": (0, 0, -1), "front": (1, 0, 0), "back": (-1, 0, 0), "roof": (0, -1, 0)}
    x, y, z = normals[name]
    turned = np.array([x * np.cos(yaw) + z * np.sin(yaw), y, z * np.cos(yaw) - x * np.sin(yaw)])
    return float(0.72 + 0.4 * max(0.0, float(turned @ SUN)) + 0.03 * np.sin(7 * time))
