"""Renders one frame of a scene."""

from __future__ import annotations

from paintover_evaluation.rendering.balloon import draw_balloon
from paintover_evaluation.rendering.bus import draw_bus, shade_bus
from paintover_evaluation.rendering.scene import Scene, SceneFrame
from paintover_evaluation.rendering.surfaces import Surface, surfaces_of
from paintover_evaluation.rendering.view import View, cloud_shadows, draw_layer, grain

SAMPLES = 8
"""Moments of an exposure that are averaged."""


def render(scene: Scene, time: float, width: int, height: int, noise_seed: int, interval: float = 0.0) -> SceneFrame:
    """A frame of a scene at a time 0..1; the same for the same arguments. noise_seed: of the sensor's noise. interval:
    from one frame to the next, in the same time."""
    exposed = scene.shutter * interval
    moments = [time] if exposed == 0 else [time + exposed * ((n + 0.5) / SAMPLES - 0.5) for n in range(SAMPLES)]
    views = [_drawn(scene, moment, width, height) for moment in moments]
    view = views[0] if len(views) == 1 else View.mean(views)
    view.defocus(scene.defocus(time) * height)
    return view.develop(grain(scene.seed, width, height), scene.noise, noise_seed)


def _drawn(scene: Scene, time: float, width: int, height: int) -> View:
    view = View(scene, time, width, height)
    _draw_scene(view, scene, surfaces_of(scene, height), time)
    return view


def _draw_scene(view: View, scene: Scene, found: dict[str, Surface], time: float) -> None:
    draw_layer(view, found["sky"], 0.12)
    draw_layer(view, found["far"], 0.22)
    draw_layer(view, found["hills"], 0.4, cloud_shadows(view, scene, time, 0.4))
    shadows = cloud_shadows(view, scene, time, 1.0)
    if scene.bus is not None:
        shade_bus(view, scene.bus, time, shadows)
    draw_layer(view, found["meadow"], 1.0, shadows)
    if scene.balloon is not None:
        draw_balloon(view, scene.balloon, found, time)
    if scene.bus is not None:
        draw_bus(view, scene.bus, found, time)
    if scene.tower is not None:
        draw_layer(view, found["tower"], 1.7)
