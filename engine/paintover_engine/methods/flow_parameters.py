"""The parameters of the methods on models of Wan's kind, as in `methods.parameters`. Light to import: pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paintover_engine.methods.parameters import Fit, LongSide, Matte, MethodParameters, Seed, Softness


class WanParameters(MethodParameters):
    """What all methods on Wan's models take; each has its own beside."""

    matte: Matte = "tracked"
    softness: Softness = 0.0
    fit: Fit = "pad"
    long_side: LongSide = 0


Prompt = Annotated[
    str,
    Field(
        title="Prompt",
        description="What the edited shot shows, in words. Empty: the edited frame alone says it.",
    ),
]

Start = Annotated[
    Literal["source", "draft"],
    Field(
        title="Start",
        description=(
            "What the painting starts from. source: the shot itself; draft: the draft's result, so that fewer steps "
            "are needed and its motion is followed."
        ),
    ),
]


Steps = Annotated[int, Field(ge=4, le=100, title="Steps", description="Noise levels of the whole schedule.")]

Guidance = Annotated[
    float,
    Field(
        ge=1.0,
        le=20.0,
        title="Guidance",
        description="How strongly the prompt is followed. 1: without guidance, in half the time.",
    ),
]


class FlowEditParameters(WanParameters):
    """The parameters of FlowEdit. The defaults are the model's own where its `paintover.json` has some."""

    n_max: int = Field(
        default=0,
        ge=0,
        le=100,
        title="Freedom (n max)",
        description=(
            "How many of the steps are edited in, from the last one back. More: the edit may change shapes further and "
            "keeps less of the shot. 0: the model's own share, four fifths for Wan."
        ),
        json_schema_extra={"basic": True},
    )
    steps: Steps = 30
    n_avg: int = Field(
        default=1,
        ge=1,
        le=8,
        title="Draws (n avg)",
        description="Draws of noise that each step is averaged over: smoother, each one pair of passes slower.",
    )
    start: Start = "source"
    prompt: Prompt = ""
    source_prompt: str = Field(
        default="",
        title="Source prompt",
        description="What the shot itself shows, in words. Empty: its first frame alone.",
    )
    guidance: Guidance = 1.0
    source_guidance: float = Field(
        default=1.0,
        ge=1.0,
        le=20.0,
        title="Source guidance",
        description="How strongly the source prompt is followed. 1: without guidance.",
    )
    seed: Seed = 42


class VaceParameters(WanParameters):
    """The parameters of VACE. The defaults are the model's own where its `paintover.json` has some."""

    strength: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        title="Freedom",
        description=(
            "How far up the noise schedule the draft's result is taken before it is painted over. 1: nothing of it is "
            "started from. 0: the model's own, 0.8 for Wan."
        ),
        json_schema_extra={"basic": True},
    )
    steps: Steps = 30
    control: float = Field(
        default=1.0,
        ge=0.0,
        le=2.0,
        title="Control",
        description="How strongly the model is held to the shot and to the draft's result in the matte.",
    )
    reference: Literal["later", "always", "never"] = Field(
        default="later",
        title="Keyframe as reference",
        description=(
            "Which windows the keyframe is shown to as a further picture, so that a long shot does not wander from it. "
            "later: those that do not start on it; always; never."
        ),
    )
    prompt: Prompt = ""
    guidance: Guidance = 1.0
    seed: Seed = 42
