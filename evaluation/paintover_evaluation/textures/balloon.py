"""A hot-air balloon: its shape, its cloth, its basket. Lengths are in radii."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paintover_evaluation.textures.canvas import (
    Area,
    Colour,
    Field,
    Picture,
    flat,
    grid,
    mix,
    noise,
    polygons,
    sprite,
    step,
    vector,
)

BALLOON_AROUND = 2 * np.pi
BALLOON_GORES = 20


@dataclass(frozen=True)
class Cloth:
    """The colours of a balloon."""

    main: Colour = (238, 226, 200)
    belt: Colour = (206, 74, 52)
    accent: Colour = (236, 158, 62)
    crown: Colour = (176, 52, 46)


def _profile() -> tuple[Field, Field, Field]:
    """The balloon's silhouette at 512 heights q from the crown at -1 to the mouth at 1.32: its radius, the length along
    the cloth from the crown, and the slope dr/dq. Each (512,) float32."""
    q = np.linspace(-1, 1.32, 512)
    round_part = np.sqrt(np.clip(1 - np.minimum(q, 0.25) ** 2, 0, None))
    reach = np.clip((q - 0.25) / 1.07, 0, 1)  # a cubic from the sphere to the mouth
    start, end, slope_start, slope_end = round_part[-1], 0.26, -0.2582 * 1.07, -0.75 * 1.07
    cubic = (
        (2 * reach**3 - 3 * reach**2 + 1) * start
        + (reach**3 - 2 * reach**2 + reach) * slope_start
        + (3 * reach**2 - 2 * reach**3) * end
        + (reach**3 - reach**2) * slope_end
    )
    radius = np.where(q <= 0.25, round_part, cubic)
    along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(q), np.diff(radius)))])
    return (
        radius.astype(np.float32),
        along.astype(np.float32),
        np.gradient(radius, q).astype(np.float32),
    )


PROFILE_RADIUS, PROFILE_ALONG, PROFILE_SLOPE = _profile()
BALLOON_DOWN = float(PROFILE_ALONG[-1])


def balloon_cloth(rng: np.random.Generator, area: Area, cloth: Cloth) -> Picture:
    """A balloon's envelope unrolled, RGB: x the angle in radians, y the way down from the crown, in radii."""
    x, y = grid(area)
    gore = area.width / BALLOON_GORES
    inside = (x / gore) % 1
    tooth = np.abs(inside - 0.5) * 2
    picture = flat((area.rows, area.columns), cloth.main)

    def band(top: float, bottom: float, teeth: float) -> Field:
        swing = (tooth - 0.5) * teeth
        return np.asarray(np.minimum(step(y - top + swing, area), step(bottom - swing - y, area)), np.float32)

    picture = mix(picture, cloth.crown, band(-1.0, 0.5, 0.16))
    picture = mix(picture, cloth.accent, band(0.58, 0.68, 0.16))
    picture = mix(picture, cloth.belt, band(1.9, 2.3, -0.16))
    picture = mix(picture, cloth.accent, band(1.78, 1.86, -0.16))
    picture = mix(picture, cloth.crown, band(2.5, 4.0, 0.0))
    weave = noise(rng, area, 0.5, 6)
    creases = noise(rng, area, 0.07, 3)
    patches = rng.uniform(0.87, 1.05, (int(area.height / 0.22) + 2, BALLOON_GORES)).astype(np.float32)
    row, column = (y / 0.22).astype(int), np.minimum((x / gore).astype(int), BALLOON_GORES - 1)
    puffed = 0.8 + 0.24 * np.sin(np.pi * inside) ** 0.7
    seam = np.minimum(np.minimum(inside, 1 - inside) * gore, np.abs((y / 0.22 + 0.5) % 1 - 0.5) * 0.22 * 2.2)
    stitched = 1 - 0.26 * np.clip(1 - seam / 0.014, 0, 1)
    folds = puffed * patches[row, column] * stitched * (0.86 + 0.26 * weave) * (0.92 + 0.16 * creases)
    return np.asarray(np.clip(picture * folds[..., None], 0, 255), np.uint8)


def basket(rng: np.random.Generator, density: float) -> Picture:
    """Ropes, burner and wicker basket, 0.8 x 0.9 units (radii), hung from its top edge."""
    area = Area(0.8, 0.9, density)
    ropes = []
    for top, bottom in ((0.2, 0.26), (0.33, 0.35), (0.47, 0.45), (0.6, 0.54)):
        ropes.append([(top, 0.0), (top + 0.012, 0.0), (bottom + 0.012, 0.6), (bottom, 0.6)])
    burner = [[(0.34, 0.3), (0.46, 0.3), (0.44, 0.36), (0.36, 0.36)]]
    wicker = [[(0.235, 0.58), (0.565, 0.58), (0.54, 0.86), (0.26, 0.86)]]
    rim = [[(0.22, 0.56), (0.58, 0.56), (0.58, 0.61), (0.22, 0.61)]]
    x, y = grid(area)
    weave = 0.72 + 0.28 * np.sin(x * 190) * np.sign(np.sin(y * 130))
    light = np.clip(1.25 - 1.1 * (x - 0.22), 0.4, 1.2)
    body = vector((150, 100, 56)) * (weave * light)[..., None]
    body = body * (0.8 + 0.4 * noise(rng, area, 0.1, 3))[..., None]
    picture = flat((area.rows, area.columns), (78, 64, 54))
    rope = polygons(ropes, area)
    alpha = rope.copy()
    for shapes, colour in ((burner, flat(rope.shape, (96, 98, 104))), (wicker, body), (rim, body * 0.7)):
        cover = polygons(shapes, area)
        picture = mix(picture, np.asarray(colour, np.float32), cover)
        alpha = np.maximum(alpha, cover)
    return sprite(picture, alpha)
