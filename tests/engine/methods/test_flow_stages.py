"""Which stages of flow the draft's others wait for."""

import numpy as np
import pytest
from paintover_engine.methods import draft
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef

from tests.engine.methods.test_draft import Shot

COUNT = 16


@pytest.mark.parametrize(("key", "beside"), [(0, [(0, 3)]), (6, [(4, 7)]), (8, [(4, 7), (8, 11)])])
def test_learning_waits_for_the_flow_beside_alone(key: int, beside: list[tuple[int, int]]) -> None:
    info = Shot([np.zeros((96, 160, 3), np.uint8)] * COUNT, {}).info
    stages = draft.plan(info, [KeyframeRef(key, "a")], DraftParameters())
    learned = next(stage for stage in stages if stage.name == "learn")
    assert [needed.frames for needed in learned.inputs if needed.name == "flow"] == beside
