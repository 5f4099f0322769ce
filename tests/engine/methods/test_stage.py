from __future__ import annotations

import dataclasses

from paintover_engine.methods.stage import Stage

FLOW = Stage("flow", {"quality": "fine"}, (), ("plate",), (0, 7))
CARRY = Stage("carry", {}, (FLOW,), ("key",), (0, 7), needs_keyframe=True)


def test_a_key_depends_on_all_that_the_output_depends_on() -> None:
    variants = [
        dataclasses.replace(FLOW, function="warp"),
        dataclasses.replace(FLOW, parameters={"quality": "fast"}),
        dataclasses.replace(FLOW, roots=("other plate",)),
        dataclasses.replace(FLOW, frames=(0, 6)),
        dataclasses.replace(FLOW, version=2),
    ]
    assert len({stage.key for stage in [FLOW, *variants]}) == 6
    changed = dataclasses.replace(CARRY, inputs=(variants[2],))
    assert changed.key != CARRY.key


def test_a_key_is_the_same_in_every_process_and_ignores_what_changes_no_output() -> None:
    same = Stage("flow", {"quality": "fine"}, (), ("plate",), (0, 7), cost=9.0, needs_keyframe=True)
    assert same.key == FLOW.key
    assert FLOW.key == Stage("flow", {"quality": "fine"}, (), ("plate",), (0, 7)).key
    assert len(FLOW.key) == 64


def test_labels_say_what_progress_shows() -> None:
    assert FLOW.label == "flow 0-7"
    assert dataclasses.replace(FLOW, frames=(3, 3)).label == "flow 3"
