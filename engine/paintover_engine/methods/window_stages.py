"""What the methods share that repaint a shot window by window with a video model: which stages a window has, and what a
window is handed by the one before."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paintover_engine.compose.detail import Fit
from paintover_engine.compose.layer import PlateRegion
from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import latents, repaint
from paintover_engine.methods.latents import EncodeParameters
from paintover_engine.methods.pictures import ModelView, ViewParameters
from paintover_engine.methods.planning import Span
from paintover_engine.methods.repaint import CompositeParameters, RepaintedSpan
from paintover_engine.methods.stage import Context, KeyframeRef, Stage, StageFunction
from paintover_engine.methods.tracking import colour, learn, load_layer, matte, propagate
from paintover_engine.methods.windows import Grid, Window

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.media.info import SourceInfo


@dataclass(frozen=True, kw_only=True)
class WindowParameters(ViewParameters):
    """window: the frame numbers of a window, anchor first."""

    window: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WindowDecodeParameters(WindowParameters, repaint.DecodeParameters):
    """Of a window; `written` are the frames that are taken from it."""


class WindowPlanner(repaint.Planner):
    """Declares a job's stages window by window, each window from the one before, outward from the keyframes.

    handover: what the next window starts from (`methods.parameters`)."""

    def __init__(
        self,
        info: SourceInfo,
        keyframes: Sequence[KeyframeRef],
        model: ModelFolder,
        view: ModelView,
        composite: CompositeParameters,
        result: StageFunction,
        handover: str,
    ) -> None:
        super().__init__(info, keyframes, model, view, composite, result)
        self.shape = models.video_shape(model.path)
        self.grid = Grid(info.first, info.last, self.shape.frames)
        self._anchors = handover == "anchored" and composite.matte == "tracked"

    @abc.abstractmethod
    def prepare_window(self, window: Window, walk: Sequence[Window]) -> None:
        """Adds the stages of a window that need no keyframe. walk: the windows before it."""

    @abc.abstractmethod
    def repaint(self, key: KeyframeRef, window: Window, walk: Sequence[tuple[Window, Stage]], more: bool) -> Stage:
        """The stage that repaints a window. walk: the windows before it and their stages, from the keyframe on; more:
        whether windows follow."""

    @abc.abstractmethod
    def repainted(self, window: Window, stage: Stage) -> Iterator[tuple[Span, tuple[Stage, ...]]]:
        """The window's written frames, span by span, the first ones first, and the stages that the result reads each
        from. stage: the one that repaints the window."""

    def prepare(self) -> None:
        """As for a keyframe on the first frame, then as for one on the last."""
        for ends in ((self.info.first, self.info.last), (self.info.last, self.info.first)):
            walk: list[Window] = []
            for window in self.grid.walk(*ends):
                self.prepare_window(window, walk)
                walk.append(window)

    def walk(self, key: KeyframeRef, end: int) -> Iterator[RepaintedSpan]:
        walk: list[tuple[Window, Stage]] = []
        windows = list(self.grid.walk(key.frame, end))
        for window in windows:
            stage = self.repaint(key, window, walk, window is not windows[-1])
            walk.append((window, stage))
            self.stages.add(stage)
            for span, stages in self.repainted(window, stage):
                yield RepaintedSpan(key, span, stages)

    def encoded(self, window: Window, view: ModelView, perturbation: int | None = None) -> tuple[Stage, ...]:
        """The stages that encode a window's frames. perturbation: as in `EncodeParameters`."""
        parameters = EncodeParameters(view=view, perturbation=perturbation)
        return tuple(
            Stage(latents.encode, parameters, (), self.roots, chunk, cost=0.06 * (chunk[1] - chunk[0] + 1))
            for chunk in self.grid.chunks()
            if chunk[0] <= window.span[1] and chunk[1] >= window.span[0]
        )

    def anchoring(self, key: KeyframeRef, window: Window, walk: Sequence[Any]) -> tuple[Stage, ...]:
        """The stages with the matte of the frame that the window before hands over; none where that frame is taken
        whole."""
        anchors = self._anchors and walk and window.anchor != key.frame
        return self.tracked.of(key.frame, (window.anchor,) * 2) if anchors else ()


def working_area(info: SourceInfo, model: ModelFolder, long_side: int) -> int:
    """Pixels of a picture that the model works on. long_side: of that picture, in pixels; 0: as the model was
    trained."""
    if long_side:
        return round(long_side**2 * min(info.width, info.height) / max(info.width, info.height))
    return models.video_shape(model.path).area


def video_view(info: SourceInfo, model: ModelFolder, area: int, fit: Fit, **others: Any) -> ModelView:
    """How a video model sees a shot in pictures of about `area` pixels."""
    return ModelView.of(info, model, area, models.video_shape(model.path).multiple, fit, **others)


def anchored(context: Context, stage: Stage, number: int, edited: Tensor, plate: Tensor) -> Tensor:
    """The latents (1, 4, h, w) of frame `number` that a window starts on: `edited`, handed over by the window before,
    in the matte that the stage's inputs hold, and `plate`, the frame's own, around it; `edited` without a matte."""
    import torch

    from paintover_engine.diffusion import blending

    tracked = [needed for needed in stage.inputs if needed.function in (matte, colour, learn, propagate)]
    if not tracked:
        return edited
    view = PlateRegion(context.plate(number), (0, 0, context.info.width, context.info.height))
    alpha = load_layer(context, tracked).composite(number, view)[1]
    seen = stage.parameters.view.framing(context.info).to_model(np.dstack([alpha] * 3))[..., 0]
    return blending.anchored(edited, plate, torch.from_numpy(seen)[None, None].to(edited).clamp(0, 1))
