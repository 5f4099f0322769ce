"""The draft where an edit goes on over what its keyframe did not show."""

from __future__ import annotations

import cv2
import numpy as np

from tests.engine.methods.shots import Frame, composed
from tests.engine.methods.test_draft import COUNT, HEIGHT, SHIFT, WIDTH, Shot, error, slide, texture


def behind(sky: Frame) -> list[Frame]:
    """A sky that stands still behind a striped pillar, which moves `SHIFT` pixels a frame."""
    stripes = np.zeros((HEIGHT, 40, 3), np.uint8) + np.array([60, 40, 30], np.uint8)
    stripes[(np.arange(HEIGHT) // 6) % 2 == 0] = (200, 190, 60)
    plates = []
    for number in range(COUNT):
        plate = sky.copy()
        plate[:, 30 + SHIFT * number : 70 + SHIFT * number] = stripes
        plates.append(plate)
    return plates


def test_uncovered_sky_is_filled() -> None:
    wide = texture()
    left = np.linspace(90, 200, HEIGHT).astype(np.uint8)[:, None, None]
    sky = np.broadcast_to(left, (HEIGHT, WIDTH, 3)).copy()
    sky[:, :, 2] = 220
    grain = np.random.default_rng(5).integers(-6, 7, sky.shape)
    sky = np.clip(cv2.GaussianBlur((sky + grain).astype(np.float32), (0, 0), 1.0), 0, 255).astype(np.uint8)
    drawn = wide[:, :WIDTH] // 6 + np.array([150, 60, 40], np.uint8)
    plates, truths = behind(sky), behind(drawn)
    edits = [(truth != plate).any(-1) for truth, plate in zip(truths, plates, strict=True)]
    frames = Shot(plates, {0: truths[0]}).run()
    last = COUNT - 1
    result, uncovered = composed(plates[last], frames[last]), edits[last] & ~edits[0]
    assert (result != plates[last]).any(-1)[uncovered].mean() > 0.95
    assert error(result, truths[last], uncovered) < 0.2 * error(plates[last], truths[last], uncovered)
    pillar = cv2.erode((~edits[last]).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert np.array_equal(result[pillar], plates[last][pillar])


def test_ground_shines_through_a_tint_that_goes_on_beyond_the_frame() -> None:
    wide = texture()
    shade = np.linspace(0, 90, wide.shape[1])[None, :, None] * np.array([1.0, 0.4, 0.1])
    tinted = wide.copy()
    tinted[HEIGHT // 2 :] = (0.6 * wide + shade)[HEIGHT // 2 :].clip(0, 255)
    plates, truths = slide(wide), slide(tinted)
    last = COUNT - 1
    result = composed(plates[last], Shot(plates, {0: truths[0]}).run()[last])
    came = np.zeros(plates[last].shape[:2], bool)
    came[HEIGHT // 2 + 4 :, -SHIFT * last // 2 :] = True
    assert error(result, truths[last], came) < 0.35 * error(plates[last], truths[last], came)
