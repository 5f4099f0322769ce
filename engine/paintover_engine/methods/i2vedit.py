"""I2VEdit: which stages a job has, and what it takes (Ouyang et al.: I2VEdit, SIGGRAPH Asia 2024). The stages are in
`i2vedit_stages`, the algorithm is `diffusion.i2vedit`.

`encode`, `invert` and `train` depend on the plate alone, so they are prepared while the artist paints and serve every
later edit; `choose`, `paint` and `result` need the keyframe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from paintover_engine.compose.edit_kind import Edit
from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import window_stages
from paintover_engine.methods.i2vedit_stages import (
    KINDS,
    AdapterLayout,
    Basics,
    ChooseParameters,
    PaintParameters,
    SourceParameters,
    TrainParameters,
    choose,
    invert,
    paint,
    result,
    train,
)
from paintover_engine.methods.model_stage import memory_notes
from paintover_engine.methods.parameters import I2VEditParameters
from paintover_engine.methods.pictures import ModelView
from paintover_engine.methods.planning import Span
from paintover_engine.methods.repaint import CompositeParameters
from paintover_engine.methods.stage import Context, KeyframeRef, Stage
from paintover_engine.methods.window_stages import WindowPlanner
from paintover_engine.methods.windows import Window

if TYPE_CHECKING:
    from paintover_engine.media.info import SourceInfo

TRAINING_AREA = {"reference": 512 * 896 / (576 * 1024), "small": 320 * 576 / (576 * 1024)}
"""Of the working size: what the authors train at, and what suffices for motion."""

LARGE = 400_000
"""Pixels from which a working size is large enough to train at less."""


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: I2VEditParameters, model: str) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    return _I2VEditPlanner(info, keyframes, parameters, models.locate(model, "svd")).plan()


class _I2VEditPlanner(WindowPlanner):
    """A window's stages: `encode` → `invert`, `train` → `paint`. Each `paint` has the one before as an input and, with
    skip-interval attention, the first window's stages.

    trained: how the model sees the shot while it is trained."""

    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: I2VEditParameters, model: ModelFolder
    ) -> None:
        area = window_stages.working_area(info, model, parameters.long_side)
        fit, size = parameters.fit, parameters.training_size
        view = window_stages.video_view(info, model, area, fit)
        trained = _training_area(area, size)
        self.trained = window_stages.video_view(info, model, trained, fit, precision="bf16")  # gradients need its range
        composite = CompositeParameters(matte=parameters.matte, softness=parameters.softness)
        super().__init__(info, keyframes, model, view, composite, result, parameters.handover)
        self._parameters = parameters
        self._basics = Basics(**parameters.model_dump(include=_names(Basics)))
        self._adapter = AdapterLayout(rank=parameters.rank, adapted=parameters.adapted)

    def prepare_window(self, window: Window, walk: Sequence[Window]) -> None:
        first = walk[0] if walk and self._parameters.skip_interval else None
        for prepared in (self._inverted(window, first), *self._adapters(window, first)):
            self.stages.add(prepared)

    def repaint(self, key: KeyframeRef, window: Window, walk: Sequence[tuple[Window, Stage]], more: bool) -> Stage:
        first = walk[0][0] if walk and self._parameters.skip_interval else None
        anchoring = self.anchoring(key, window, walk)
        inputs = [*self._of(window, first), self._chosen(key), *anchoring, *(stage for _, stage in walk[-1:])]
        if first:
            inputs += [*self._of(first, None), walk[0][1]]
        own = _names(PaintParameters) - _names(SourceParameters) - {"states"}
        return Stage(
            paint,
            PaintParameters(
                **self._shared(self.view, window, first),
                adapter=self._adapter,
                states=more and not walk and self._parameters.skip_interval,
                **self._parameters.model_dump(include=own),
            ),
            _each_once(inputs),
            (*self.roots, key.digest),
            window.span,
            needs_keyframe=True,
            cost=self._parameters.steps * (2 + self._parameters.matching) * (1 + bool(first)),
        )

    def _chosen(self, key: KeyframeRef) -> Stage:
        """The stage that decides what kind of edit a keyframe is."""
        parameters, roots = ChooseParameters(preset=self._parameters.preset), (self.info.fingerprint, key.digest)
        return Stage(choose, parameters, (), roots, (key.frame, key.frame), needs_keyframe=True, cost=0.1)

    def repainted(self, window: Window, stage: Stage) -> Iterator[tuple[Span, tuple[Stage, ...]]]:
        yield window.written, (stage, *self._encoded(window, self.view))

    def _shared(self, view: ModelView, window: Window, first: Window | None) -> dict[str, Any]:
        frames = first.frames if first else None
        return {"view": view, "window": window.frames, "first": frames, "basics": self._basics}

    def _of(self, window: Window, first: Window | None) -> tuple[Stage, ...]:
        """The stages of a window's source."""
        adapters = self._adapters(window, first)
        return (*self._encoded(window, self.view), self._inverted(window, first), *adapters)

    def _encoded(self, window: Window, view: ModelView) -> tuple[Stage, ...]:
        return self.encoded(window, view, self._basics.sarp_seed)

    def _first_source(self, first: Window | None, view: ModelView) -> tuple[Stage, ...]:
        """The stages of the first window's source that a later window's source attends to."""
        return (*self._encoded(first, view), self._inverted(first, None, view)) if first else ()

    def _inverted(self, window: Window, first: Window | None, view: ModelView | None = None) -> Stage:
        view = view or self.view
        adapted = self._parameters.adapted_source and view is self.view
        adapters = self._adapters(window, first) if adapted else ()
        return Stage(
            invert,
            SourceParameters(**self._shared(view, window, first), adapter=self._adapter if adapted else None),
            _each_once([*self._encoded(window, view), *adapters, *self._first_source(first, view)]),
            self.roots,
            window.span,
            cost=self._parameters.steps * (1 + bool(first)),
        )

    def _adapters(self, window: Window, first: Window | None) -> tuple[Stage, ...]:
        """The stage that trains a window's motion adapter, where there is one."""
        parameters, view = self._parameters, self.trained
        if not parameters.adapters:
            return ()
        ratio = view.size[0] * view.size[1] / (self.view.size[0] * self.view.size[1])
        stage = Stage(
            train,
            TrainParameters(
                **self._shared(view, window, first),
                adapter=self._adapter,
                training_steps=parameters.training_steps,
                learning_rate=parameters.learning_rate,
                stop_early=parameters.stop_early,
                source_level=parameters.source_level,
            ),
            _each_once([*self._encoded(window, view), *self._first_source(first, view)]),
            self.roots,
            window.span,
            cost=parameters.training_steps * (2.5 + bool(first)) * ratio,
        )
        return (stage,)


def _names(parameters: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(parameters)}


def _each_once(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    return tuple({stage.key: stage for stage in stages}.values())


def _training_area(area: int, size: str) -> int:
    """Pixels of the pictures that motion is learned on."""
    chosen = ("small" if area >= LARGE else "full") if size == "auto" else size
    return round(area * TRAINING_AREA.get(chosen, 1.0))


def requirements(info: SourceInfo, parameters: I2VEditParameters, model: ModelFolder) -> dict[str, Any]:
    """What a job would take, counted from shapes: `windows`; and of each, `frames` and `size`, (width, height), with
    `diffusion.plan.requirements`."""
    from paintover_engine.diffusion import plan as counted

    planner = _I2VEditPlanner(info, (), parameters, model)
    (width, height), trained, factor = planner.view.size, planner.trained.size, planner.shape.factor
    windows = len(list(planner.grid.walk(info.first, info.last)))
    shape = counted.Shape(
        frames=planner.shape.frames,
        grid=(height // factor, width // factor),
        trained=(trained[1] // factor, trained[0] // factor),
        rank=parameters.rank * parameters.adapters,
        placement=parameters.adapted,
        matches=parameters.matching,
        follows=parameters.skip_interval and windows > 1,
    )
    needed = counted.requirements(
        model.path, shape, steps=parameters.steps, size=(width, height), picture=(info.width, info.height)
    )
    return {"windows": windows, "frames": shape.frames, "size": (width, height), **needed}


def gpu_memory(info: SourceInfo, parameters: I2VEditParameters, model: ModelFolder) -> int:
    """Bytes of GPU memory at most in the smallest tier."""
    return int(min(requirements(info, parameters, model)["tiers"].values()))


def notes(context: Context, stages: Sequence[Stage]) -> list[str]:
    """Sentences for a finished job: as what kind of edit each keyframe was taken where the user left that open, and
    why; and that memory ran out, and how it went on."""
    sentences = []
    for stage in stages:
        if stage.function is choose and stage.parameters.preset == "auto":
            choice = context.load(stage)
            kind = KINDS[int(choice.kind[0])]
            words = Edit(kind, *(float(share) for share in choice.evidence)).words
            sentences.append(f"Frame {stage.frames[0]} was taken as the preset '{kind}': {words}.")
    return list(dict.fromkeys([*sentences, *memory_notes(context, stages)]))
