"""The parameters of every method, as pydantic models: ranges and help texts for the command line, the wire and the
hosts.

Light to import: pydantic only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# What several methods share: each takes it where it belongs in its own order, with its own default.

Softness = Annotated[
    float,
    Field(
        ge=0.0,
        le=50.0,
        title="Edge softness",
        description="Feathers the matte's edge inwards by this much beyond what the keyframe shows.",
        json_schema_extra={"basic": True, "unit": "px"},
    ),
]

Matte = Annotated[
    Literal["tracked", "difference", "whole"],
    Field(
        title="Where it applies",
        description=(
            "tracked: inside the keyframe's matte, carried along as in the draft; difference: where the model changed "
            "the picture; whole: everywhere."
        ),
        json_schema_extra={"basic": True},
    ),
]

Fit = Annotated[
    Literal["pad", "crop"],
    Field(
        title="Fit",
        description=(
            "How a shot of another shape than the model's pictures lies in them; it is never stretched. pad: all of "
            "it, its border reflected; crop: its middle, and what is cut off stays the plate."
        ),
    ),
]

LongSide = Annotated[
    int,
    Field(
        ge=0,
        le=4096,
        title="Working size",
        description="The long side of the picture that the model works on. 0: what it was trained on.",
        json_schema_extra={"unit": "px"},
    ),
]

Handover = Annotated[
    Literal["anchored", "latents"],
    Field(
        title="Handover",
        description=(
            "What the next window starts from. anchored: the last frame as it was painted in the matte, the shot's own "
            "around it; latents: the whole last frame as it was painted, as in the paper: what lies around the edit "
            "then wanders from window to window. Only a tracked matte anchors."
        ),
    ),
]

Seed = Annotated[
    int,
    Field(
        ge=0,
        le=2**31 - 1,
        title="Seed",
        description="Of all random numbers; the same seed, the same result.",
    ),
]


class MethodParameters(BaseModel):
    """Of one method."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DraftParameters(MethodParameters):
    """The parameters of the draft; the defaults are chosen from the keyframe."""

    mode: Literal["auto", "colour", "paint", "grade"] = Field(
        default="auto",
        title="Kind of edit",
        description=(
            "How the edit travels. colour: what the paint did to each colour is done to every frame's own pixels, so "
            "their texture stays; paint: the painted pixels themselves are moved along with the surface; grade: the "
            "whole frame is recoloured and nothing is tracked; auto: looks at the keyframe and decides."
        ),
        json_schema_extra={"basic": True},
    )
    softness: Softness = 0.0
    fill: Literal["on", "off"] = Field(
        default="on",
        title="Fill what comes into view",
        description=(
            "on: paint on a sky, a wall or a floor that reaches the frame's border goes on over what the camera or an "
            "object uncovers of it, by the paint's own texture; off: only what the keyframe shows is painted sharply."
        ),
    )
    motion_blur: Literal["on", "off"] = Field(
        default="on",
        title="Motion blur",
        description=(
            "on: drawn paint is blurred as far as its frame is blurrier there than the keyframe, by motion or by "
            "focus; off: it stays as sharp as it was painted."
        ),
    )
    grain: Literal["on", "off"] = Field(
        default="on",
        title="Grain",
        description=(
            "on: drawn paint that is cleaner than its frame takes the frame's grain; off: it stays as clean as it was "
            "painted, for a compositor who adds grain later."
        ),
    )


class VideoshopParameters(MethodParameters):
    """The parameters of Videoshop. The defaults are the paper's, or the ones in the model's `paintover.json`."""

    strength: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        title="Freedom",
        description=(
            "How much of the noise schedule is gone back through. Higher: a freer edit that keeps less of the shot's "
            "motion. 0: the model's own, 0.55 for Stable Video Diffusion, 0.67 for Wan."
        ),
        json_schema_extra={"basic": True},
    )
    guidance: float = Field(
        default=0.0,
        ge=0.0,
        le=20.0,
        title="Guidance",
        description=(
            "How strongly the edited frame is followed. 1: without guidance, in half the time. 0: the model's own, "
            "4 for Stable Video Diffusion."
        ),
        json_schema_extra={"basic": True},
    )
    matte: Matte = "tracked"
    softness: Softness = 0.0
    fit: Fit = "pad"
    long_side: LongSide = 0
    steps: int = Field(
        default=25, ge=4, le=100, title="Steps", description="Noise levels of the whole schedule; 25 in the paper."
    )
    threshold: float = Field(
        default=0.0,
        ge=-1.0,
        le=700.0,
        title="Threshold",
        description=(
            "The noise level up to which the inversion asks with random noise instead of extrapolating. Lower keeps "
            "more of the shot's detail. 0: the model's own, 1 for Stable Video Diffusion, as in the paper, 0.1 for "
            "Wan. -1: no threshold, which the paper tries and which ends in no numbers."
        ),
    )
    refinements: int = Field(
        default=0,
        ge=0,
        le=5,
        title="Refinements",
        description="Rounds of fixed-point iteration of each step of the inversion: more exact, each one pass slower.",
    )
    inversion: Literal["extrapolation", "naive", "bdia", "midpoint", "noise", "none"] = Field(
        default="extrapolation",
        title="Inversion",
        description=(
            "How the shot is turned into noise. extrapolation: Videoshop's; naive: without extrapolation; bdia: the "
            "exact inversion that the paper compares with; midpoint: for Wan, two passes a step; "
            "noise: random noise added to the shot; none: pure noise, "
            "the shot is not looked at. All but the first are for comparison."
        ),
    )
    normalisation: Literal["auto", "channel", "paper", "frame", "none"] = Field(
        default="auto",
        title="Normalisation",
        description=(
            "What is evened out before the inversion. channel: mean and deviation of each channel of the latents over "
            "the window; paper: the deviation alone, as the paper has it; frame: both of each frame, as in its code, "
            "which loses fades; none: nothing; auto: the model's own, else channel."
        ),
    )
    rescaling: Literal["auto", "match", "paper", "undo", "none"] = Field(
        default="auto",
        title="Rescaling",
        description=(
            "How the range is restored. match: by the edited frame's mean and deviation, as in the paper's code; "
            "paper: its equation as printed; undo: the normalisation undone; none: not at all; auto: the model's own, "
            "else match."
        ),
    )
    condition: Literal["auto", "code", "plain", "consistent"] = Field(
        default="auto",
        title="Condition",
        description=(
            "Whether the first frame that the model is given is normalised too. code: while inverting, by one mean and "
            "deviation, as in the paper's code; plain: never; consistent: always, as the video is; auto: the model's "
            "own, else code."
        ),
    )
    noise_aug: float = Field(
        default=-1.0,
        ge=-1.0,
        le=1.0,
        title="Noise on the first frame",
        description="How much noise the first frame carries that the model is given. -1: the model's own, 0.2 for SVD.",
    )
    handover: Handover = "anchored"
    seed: Seed = 42


class I2VEditParameters(MethodParameters):
    """The parameters of I2VEdit; the defaults are the authors'."""

    preset: Literal["auto", "local", "style", "shape"] = Field(
        default="auto",
        title="Kind of edit",
        description=(
            "How far the picture is held to the shot. local: an object changed, its outline kept; style: the whole "
            "frame's look, all outlines kept; shape: outlines changed, the motion alone is kept; auto: found from the "
            "keyframe and told when the job is done."
        ),
        json_schema_extra={"basic": True},
    )
    matte: Matte = "tracked"
    softness: Softness = 0.0
    training_steps: int = Field(
        default=250,
        ge=1,
        le=2000,
        title="Motion training",
        description="Steps at most that each window's motion is learned for: most of the time that the method takes.",
        json_schema_extra={"basic": True},
    )
    fit: Fit = "pad"
    long_side: LongSide = 0
    stop_early: bool = Field(
        default=False,
        title="Stop early",
        description="End a window's training when a hundred steps brought less than 2 %. Off as in the paper.",
    )
    training_size: Literal["auto", "full", "reference", "small"] = Field(
        default="auto",
        title="Training size",
        description=(
            "What motion is learned on. full: the working size; reference: 8/9 of its sides, as the authors do; small: "
            "5/9, a third of the work; auto: small where the working size is large."
        ),
    )
    matching: bool = Field(
        default=True,
        title="Attention matching",
        description="Hold the edit's attention to the shot's. Off to see what it does.",
    )
    adapters: bool = Field(
        default=True,
        title="Motion adapters",
        description="Learn each window's motion. Off: no training, and less of the motion.",
    )
    skip_interval: bool = Field(
        default=True,
        title="Skip-interval attention",
        description=(
            "Let later windows look at the first one, so that a long shot drifts less, at twice the time for each."
        ),
    )
    perturbation: bool = Field(
        default=True,
        title="Perturb flat areas",
        description="Add a little noise to flat areas of the shot before it is inverted. Off to see what it does.",
    )
    guidance_first: float = Field(
        default=1.0, ge=1.0, le=20.0, title="Guidance, first frame", description="Of a window's first frame."
    )
    guidance_last: float = Field(
        default=2.0,
        ge=1.0,
        le=20.0,
        title="Guidance, last frame",
        description="Of a window's last frame; linear between.",
    )
    threshold: float = Field(
        default=0.35,
        ge=0.0,
        le=2.0,
        title="Matching threshold",
        description="From this distance of attention on, 0 to 1, a place belongs to the edit alone. Above 1: never.",
    )
    steps: int = Field(default=25, ge=4, le=100, title="Steps", description="Noise levels; 25 in the paper.")
    rank: int = Field(default=32, ge=1, le=256, title="Rank", description="Of the motion adapters.")
    learning_rate: float = Field(
        default=5e-4, ge=1e-6, le=1.0, title="Learning rate", description="Of the motion training."
    )
    adapted: Literal["block", "attention"] = Field(
        default="block",
        title="Adapted layers",
        description="block: all of the temporal blocks, as in the authors' code; attention: their paper's.",
    )
    coarse: Literal["quarter", "reference"] = Field(
        default="quarter",
        title="Coarse layers",
        description=(
            "Where temporal attention is held longest. quarter: on grids of at most a quarter, as in the paper; "
            "reference: as in the authors' code, which leaves one of those layers out."
        ),
    )
    source_level: Literal["same", "lower"] = Field(
        default="same",
        title="Level of the source",
        description=(
            "The noise level that the shot is seen at, and in training, the first window. lower: the next lower one, "
            "as in the authors' code."
        ),
    )
    adapted_source: bool = Field(
        default=False,
        title="Adapt the source",
        description="Use the motion adapters for the shot's own inversion too, as in the paper's figure.",
    )
    condition_noise: Literal["pixel", "latent"] = Field(
        default="pixel",
        title="Noise on the first frame is",
        description="pixel: added to the picture, as the model was trained; latent: to its latents, as in the paper.",
    )
    noise_aug: float = Field(
        default=0.02,
        ge=0.0,
        le=1.0,
        title="Noise on the first frame",
        description="How much noise the first frame carries that the model is given.",
    )
    handover: Handover = "anchored"
    seed: Seed = 23


class VP4Parameters(MethodParameters):
    """The parameters of VP4. The defaults are the paper's; where it is silent or its wording fails, ours, with the
    literal reading as a choice (docs/methods/vp4.md)."""

    strength: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        title="Freedom",
        description=(
            "How far up the noise schedule sampling starts. Higher: a stronger edit that keeps less of the shot. 0: "
            "the model's own, 0.8 for Stable Diffusion 1.5."
        ),
        json_schema_extra={"basic": True},
    )
    guidance: float = Field(
        default=0.0,
        ge=0.0,
        le=30.0,
        title="Guidance",
        description=(
            "How strongly the edit's direction is followed. 1: without guidance, in less time. 0: the model's own, 7.5 "
            "for Stable Diffusion 1.5."
        ),
        json_schema_extra={"basic": True},
    )
    matte: Matte = "tracked"
    softness: Softness = 0.0
    cell: int = Field(
        default=0,
        ge=0,
        le=1024,
        title="Cell size",
        description="The short side of a frame in the model's 2x2 grid. 0: half of what it was trained on, 256 for SD.",
        json_schema_extra={"unit": "px"},
    )
    steps: int = Field(default=30, ge=2, le=200, title="Steps", description="Of content consistency; 30 in the paper.")
    lambda1: float = Field(
        default=0.7,
        ge=0.0,
        le=5.0,
        title="Edit direction (λ1)",
        description="How much of the edit's direction is asked.",
    )
    lambda2: float = Field(
        default=1.2,
        ge=0.0,
        le=5.0,
        title="Noise calibration (λ2)",
        description="The weight of what the edit changes in the network's estimate. 1: as in DDCM.",
    )
    prompt: Literal["offset", "literal"] = Field(
        default="offset",
        title="Prompt",
        description=(
            "How the difference of two image embeddings becomes a prompt. offset: taken back through the text "
            "projection and added to the empty prompt; literal: put in the text's place as it is."
        ),
    )
    sampling: Literal["consistency", "plain"] = Field(
        default="consistency",
        title="Sampling",
        description="consistency: held to the source; plain: DDIM without content consistency, for comparison.",
    )
    branches: Literal["unedited", "same", "region"] = Field(
        default="unedited",
        title="Source branch",
        description=(
            "What the edit's noise is compared with. unedited: a second grid whose exemplar has no edit; same: the "
            "same grid with the empty prompt; region: the question's cell of the one grid, in half the time."
        ),
    )
    cloning: float = Field(
        default=0.0,
        ge=0.0,
        le=2.0,
        title="Self-attention cloning",
        description="The scale of the exemplar's attention that is copied onto the answer, 1 to 1.3; 0: none.",
    )
    consistency: Literal["residual", "literal", "none"] = Field(
        default="residual",
        title="Temporal consistency",
        description=(
            "residual: neighbouring frames' edits are made to agree along the motion; literal: as the paper's equation "
            "is printed, which draws the edit back to the source; none: frames stay as they were sampled."
        ),
        json_schema_extra={"basic": True},
    )
    consistency_steps: int = Field(
        default=50, ge=1, le=500, title="Consistency steps", description="Of temporal consistency; 50 in the paper."
    )
    eta: float = Field(
        default=2.0,
        ge=0.0,
        le=20.0,
        title="Consistency step size (η)",
        description="Higher makes frames agree more. Of all steps together; with the literal reading, of each step.",
    )
    seed: Seed = 42
