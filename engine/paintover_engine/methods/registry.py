"""The methods that this engine has, described once: the CLI, the wire and every host build their controls from here.

Light to import: no method's own module is loaded.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from paintover_engine.diffusion import models
from paintover_engine.errors import Code, PaintoverError, nearest
from paintover_engine.methods.flow_parameters import FlowEditParameters, VaceParameters
from paintover_engine.methods.parameters import DraftParameters, I2VEditParameters, VideoshopParameters, VP4Parameters

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo
    from paintover_engine.methods.stage import KeyframeRef, Stage


@dataclass(frozen=True)
class MethodSpec:
    """A method as front ends see it. module: where its `plan` is.

    model_kinds: the kinds of model that it computes with (`diffusion.models`); empty: none.
    default_model: what it takes where a job names none.
    """

    name: str
    title: str
    summary: str
    parameters: type[BaseModel]
    module: str
    needs: tuple[str, ...] = ()
    model_kinds: tuple[str, ...] = ()
    default_model: str = ""

    @property
    def takes_model(self) -> bool:
        return bool(self.model_kinds)


BEST = "best"
"""In place of a method's name: the best that the machine can run."""

FINALS = ("flowedit", "vace", "videoshop")
"""The methods that are taken unasked for a final, the best first. I2VEdit trains on every window, which takes hours: it
is named by whoever wants it."""

METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec(
            name="draft",
            title="Draft",
            summary="Carries the edit by optical flow and the edit's own colours: no weights, no GPU, seconds.",
            parameters=DraftParameters,
            module="paintover_engine.methods.draft",
        ),
        MethodSpec(
            name="flowedit",
            title="FlowEdit",
            summary="Has a Wan model carry the edited frame through the shot; what was not edited stays as it was.",
            parameters=FlowEditParameters,
            module="paintover_engine.methods.flowedit",
            needs=("an image-to-video model of the Wan kind", "a GPU for models of full size"),
            model_kinds=("wan",),
            default_model="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        ),
        MethodSpec(
            name="videoshop",
            title="Videoshop",
            summary="Has a video model repaint the shot from the edited frame, along the shot's own motion.",
            parameters=VideoshopParameters,
            module="paintover_engine.methods.videoshop",
            needs=("an image-to-video model", "a GPU for models of full size"),
            model_kinds=("svd", "wan"),
            default_model="stabilityai/stable-video-diffusion-img2vid",
        ),
        MethodSpec(
            name="vace",
            title="VACE",
            summary="Has a VACE model repaint what the draft found, inside the matte: several keyframes, new shapes.",
            parameters=VaceParameters,
            module="paintover_engine.methods.vace",
            needs=("a VACE model of the Wan kind", "a GPU for models of full size"),
            model_kinds=("vace",),
            default_model="Wan-AI/Wan2.1-VACE-1.3B-Diffusers",
        ),
        MethodSpec(
            name="i2vedit",
            title="I2VEdit",
            summary="Teaches a video model the shot's own motion, and holds its attention to the shot: the most exact.",
            parameters=I2VEditParameters,
            module="paintover_engine.methods.i2vedit",
            needs=("an image-to-video model", "a GPU for models of full size"),
            model_kinds=("svd",),
            default_model="stabilityai/stable-video-diffusion-img2vid",
        ),
        MethodSpec(
            name="vp4",
            title="VP4",
            summary="Shows an inpainting model the edit and has it applied to every frame: quick, no inversion.",
            parameters=VP4Parameters,
            module="paintover_engine.methods.vp4",
            needs=("an inpainting model", "its CLIP", "a GPU for models of full size"),
            model_kinds=("inpaint",),
            default_model="stable-diffusion-v1-5/stable-diffusion-inpainting",
        ),
    )
}


class Kind(enum.Enum):
    """What a control for a parameter looks like."""

    FLOAT = "float"
    INT = "int"
    BOOL = "bool"
    CHOICE = "choice"
    STRING = "string"


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter as front ends see it; `default` is the text that a job's parameters take."""

    name: str
    title: str
    help: str
    kind: Kind
    default: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    unit: str
    basic: bool


def find_method(name: str) -> MethodSpec:
    """The method of that name, or an error that names the nearest."""
    if name not in METHODS:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"There is no method '{name}'.{nearest(name, METHODS)}")
    return METHODS[name]


def find_model(spec: MethodSpec, name: str) -> models.ModelFolder:
    """The model that a job of a method names; "": the method's own choice.

    Raises PaintoverError where it, or what it runs on, is not on this machine, with what to do."""
    if not importlib.util.find_spec("torch"):
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The method {spec.name} needs PyTorch, which is not installed: run pip install 'paintover[models]' "
            "in the engine's Python, or use the method draft.",
        )
    return models.locate(model_name(spec, name), *spec.model_kinds)


def plan_stages(
    spec: MethodSpec, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: BaseModel, model: str
) -> list[Stage]:
    """A method's stages for a shot. Loads the method's module. model: "" for `model_name`'s."""
    settings = (parameters, model_name(spec, model)) if spec.takes_model else (parameters,)
    stages: list[Stage] = importlib.import_module(spec.module).plan(info, keyframes, *settings)
    return stages


def gpu_memory(spec: MethodSpec, info: SourceInfo, parameters: BaseModel, model: str) -> int:
    """Bytes of GPU memory that a job takes at any moment in the smallest tier; 0 for methods that count none. Loads the
    method's module. model: "" for the method's default."""
    count = getattr(importlib.import_module(spec.module), "gpu_memory", None)
    return int(count(info, parameters, find_model(spec, model))) if count else 0


def trained_size_memory(model: str) -> int:
    """Bytes of GPU memory that a model takes in the smallest tier on a shot of the size that it was trained on, by the
    first method that computes with it; 0 where none counts them. Loads the method's module.

    Raises PaintoverError where the model's folder is damaged."""
    found = next(found for found in models.listed() if found.name == model)
    for spec in METHODS.values():
        if found.kind in spec.model_kinds:
            return gpu_memory(spec, _as_trained(found), spec.parameters(), model)
    return 0


def _as_trained(model: models.FoundModel) -> SourceInfo:
    from paintover_engine.media.info import SourceInfo

    width, height = model.trained_size
    return SourceInfo(
        "", "frames", 0, 1000, width, height, "uint8", 3, None, False, "", "", False, Fraction(1), "", False, (), ""
    )


def licence_of(model: models.ModelFolder) -> str:
    """The name of a model's licence; "unknown" where nothing states it."""
    return models.licence(model)


def why_unavailable(spec: MethodSpec) -> str:
    """Why a job of the method that names no model would fail on this machine, and what to do; "" where it could run."""
    try:
        if spec.takes_model:
            find_model(spec, "")
    except PaintoverError as error:
        return error.message
    return ""


@dataclass(frozen=True)
class ModelSpec:
    """A model on this machine as front ends see it. methods: the names of those that compute with it. size: bytes of
    its weights. shipped: whether it is a small one of ours."""

    name: str
    methods: tuple[str, ...]
    licence: str
    size: int
    shipped: bool = False


def found_models() -> list[ModelSpec]:
    """The models on this machine, shipped ones first."""
    return [
        ModelSpec(
            found.name,
            tuple(spec.name for spec in METHODS.values() if found.kind in spec.model_kinds),
            found.licence,
            found.size,
            models.is_shipped(found.name),
        )
        for found in models.listed()
    ]


def model_name(spec: MethodSpec, name: str) -> str:
    """The model that a job of a method computes with: the one it names; else the method's default where it is here;
    else the first one here that serves it, and that is no small one of ours."""
    if name:
        return name
    here = [found for kind in spec.model_kinds for found in models.found(kind)]
    others = [found for found in here if not models.is_shipped(found)]
    return spec.default_model if spec.default_model in here or not others else others[0]


def describe_parameters(spec: MethodSpec) -> list[ParameterSpec]:
    """A method's parameters, read off its pydantic model."""
    schema = spec.parameters.model_json_schema()["properties"]
    return [_describe(name, field, schema[name]) for name, field in spec.parameters.model_fields.items()]


def _describe(name: str, field: FieldInfo, schema: Mapping[str, Any]) -> ParameterSpec:
    choices = tuple(str(choice) for choice in schema.get("enum", ()))
    kinds = {"number": Kind.FLOAT, "integer": Kind.INT, "boolean": Kind.BOOL, "string": Kind.STRING}
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return ParameterSpec(
        name=name,
        title=field.title or name.replace("_", " ").capitalize(),
        help=field.description or "",
        kind=Kind.CHOICE if choices else kinds[schema["type"]],
        default=text(field.default),
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        choices=choices,
        unit=str(extra.get("unit", "")),
        basic=bool(extra.get("basic", False)),
    )


def text(value: Any) -> str:
    """A parameter's value as text: "true", "0.5", "fine"."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_parameters(spec: MethodSpec, given: Mapping[str, str]) -> BaseModel:
    """A job's parameters from text.

    Raises PaintoverError that names the parameter, what it takes, and the nearest name for an unknown one."""
    for name in given:
        if name not in spec.parameters.model_fields:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"The method {spec.name} has no parameter '{name}'.{nearest(name, spec.parameters.model_fields)}",
            )
    try:
        return spec.parameters.model_validate_strings(dict(given))
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        described = next(p for p in describe_parameters(spec) if p.name == name)
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The parameter {name} of {spec.name} takes {takes(described)}, not '{given[name]}'.",
        ) from error


def takes(parameter: ParameterSpec) -> str:
    """ "a number from 0 to 8", "one of fast, fine": the values a parameter takes, for people."""
    if parameter.kind is Kind.CHOICE:
        return "one of " + ", ".join(parameter.choices)
    if parameter.kind is Kind.BOOL:
        return "true or false"
    words = {Kind.FLOAT: "a number", Kind.INT: "a whole number", Kind.STRING: "a text"}[parameter.kind]
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None:
        return f"{words} from {low:g} to {high:g}"
    if low is not None:
        return f"{words} of at least {low:g}"
    return f"{words} of at most {high:g}" if high is not None else words
