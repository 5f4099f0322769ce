from __future__ import annotations

import dataclasses

from paintover_engine.methods.stage import Context, Stage, StageFunction, Tensors, stage


@stage()
def flow(context: Context, stage: Stage) -> Tensors:
    return {}


@stage()
def carry(context: Context, stage: Stage) -> Tensors:
    return {}


FLOW = Stage(flow, {"quality": "fine"}, (), ("plate",), (0, 7))
CARRY = Stage(carry, {}, (FLOW,), ("key",), (0, 7), needs_keyframe=True)


def redeclared(module: str = __name__, name: str = "flow", version: int = 1) -> StageFunction:
    """Flow's function as another module, name or version would declare it."""

    def compute(context: Context, stage: Stage) -> Tensors:
        return {}

    compute.__module__, compute.__name__, compute.__qualname__ = module, name, name
    return stage(version=version)(compute)


def test_key_depends_on_everything_the_output_does() -> None:
    variants = [
        dataclasses.replace(FLOW, function=redeclared(name="warp")),
        dataclasses.replace(FLOW, function=redeclared(module="other.method")),
        dataclasses.replace(FLOW, function=redeclared(version=2)),
        dataclasses.replace(FLOW, parameters={"quality": "fast"}),
        dataclasses.replace(FLOW, roots=("other plate",)),
        dataclasses.replace(FLOW, frames=(0, 6)),
    ]
    assert len({stage.key for stage in [FLOW, *variants]}) == 7
    changed = dataclasses.replace(CARRY, inputs=(variants[-1],))
    assert changed.key != CARRY.key


def test_key_is_stable_and_ignores_cost() -> None:
    same = Stage(redeclared(), {"quality": "fine"}, (), ("plate",), (0, 7), cost=9.0, needs_keyframe=True)
    assert same.key == FLOW.key
    assert FLOW.key == Stage(flow, {"quality": "fine"}, (), ("plate",), (0, 7)).key
    assert len(FLOW.key) == 64


def test_label_has_name_and_frames() -> None:
    assert FLOW.label == "flow 0-7"
    assert dataclasses.replace(FLOW, frames=(3, 3)).label == "flow 3"


def test_dataclass_parameters_are_in_the_key() -> None:
    @dataclasses.dataclass(frozen=True)
    class Quality:
        quality: str

    assert Stage(flow, Quality("fine"), (), ("plate",), (0, 7)).key == FLOW.key
    assert Stage(flow, Quality("fast"), (), ("plate",), (0, 7)).key != FLOW.key


def test_inputs_are_found_by_their_function() -> None:
    assert CARRY.inputs_of(flow) == [FLOW]
    assert CARRY.inputs_of(carry) == []
