"""What the stages that track an edit wait for, and what they do only where it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.methods import draft, tracking
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef, Stage

from tests.engine.methods.shots import composed
from tests.engine.methods.test_draft import COUNT, HEIGHT, WIDTH, Shot, error, slide, texture


def ancestors(stage: Stage) -> Iterator[Stage]:
    for needed in stage.inputs:
        yield needed
        yield from ancestors(needed)


@pytest.mark.parametrize(
    ("name", "needed"),
    [("train_matte", {"matte", "region"}), ("learn", {"matte", "region", "colour", "kind", "train_matte"})],
)
def test_network_is_trained_while_colours_and_flow_are_found(name: str, needed: set[str]) -> None:
    info = Shot([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * COUNT, {}).info
    stages = draft.plan(info, [KeyframeRef(0, "a")], DraftParameters())
    (trained,) = [stage for stage in stages if stage.name == name]
    assert {each.name for each in ancestors(trained)} == needed


@pytest.mark.parametrize("mode", ["auto", "grade"])
def test_grade_trains_no_network(mode: Literal["auto", "grade"], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_trained", lambda *_: pytest.fail("a grade is not tracked"))
    plates = slide(texture())
    frames = Shot(plates, {0: (plates[0] * 0.6).astype(np.uint8)}).run(DraftParameters(mode=mode))
    assert frames[COUNT - 1].bounds == (0, 0, WIDTH, HEIGHT)


def test_paint_over_most_of_a_frame_that_is_no_grade_is_tracked() -> None:
    wide = texture()
    inside = np.zeros(wide.shape[:2], bool)
    inside[:, 30:] = True
    plates, truths = slide(wide), slide(np.where(inside[..., None], wide[..., ::-1] // 2 + 60, wide).astype(np.uint8))
    frames = Shot(plates, {0: truths[0]}).run()
    beside: NDArray[np.bool_] = (truths[5] == plates[5]).all(-1)
    result = composed(plates[5], frames[5])
    assert error(result, truths[5], ~beside) < 0.4 * error(plates[5], truths[5], ~beside)
    assert (result[beside] == plates[5][beside]).mean() > 0.8
