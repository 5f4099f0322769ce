"""What methods that repaint windows of a shot with a video model share: how windows follow from keyframes in a plan,
and pictures on their way between the shot and the model."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.detail import Fit, Framing, Picture
from paintover_engine.compose.layer import View
from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods.planning import StageList
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, StageFunction, Tensors
from paintover_engine.methods.tracked import Repainted, TrackedStages, composite
from paintover_engine.methods.tracking import colour, learn, load_layer, matte, propagate
from paintover_engine.methods.windows import Grid, Window

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.memory import Tiered
    from paintover_engine.media.info import SourceInfo

Model = TypeVar("Model", bound="Tiered")

_BEYOND = 0.25
"""How far pictures of a VAE may leave 0..1: errors of it and of its copy of the plate ought to cancel."""


@dataclass(frozen=True)
class Painted:
    """What one keyframe gives of a span of frames: the stages with what was painted."""

    key: KeyframeRef
    span: tuple[int, int]
    stages: tuple[Stage, ...]


class Planner(abc.ABC):
    """Declares a job's stages, outward from its keyframes; `stages` collects them, each once, after its inputs."""

    def __init__(
        self,
        info: SourceInfo,
        keyframes: Sequence[KeyframeRef],
        model: ModelFolder,
        laid: Mapping[str, Any],
        result: StageFunction,
    ) -> None:
        self.info = info
        self.keyframes = sorted(keyframes, key=lambda key: key.frame)
        self.shape = models.video_shape(model.path)
        self.roots = (info.fingerprint, model.digest)
        self.grid = Grid(info.first, info.last, self.shape.frames)
        self.tracked = TrackedStages(info, keyframes)
        self.stages = StageList()
        self._laid = dict(laid)
        self._publish = result

    @abc.abstractmethod
    def prepare(self, window: Window, walk: list[Window]) -> None:
        """Adds what of a window needs no keyframe. walk: the windows before it."""

    @abc.abstractmethod
    def paint(self, key: KeyframeRef, window: Window, walk: list[tuple[Window, Stage]], more: bool) -> Stage:
        """The stage that paints a window. walk: the windows before it with theirs, from the keyframe on; more: others
        follow."""

    @abc.abstractmethod
    def shown(self, window: Window, painted: Stage) -> tuple[Stage, ...]:
        """The stages that the window's frames are made of."""

    def encoded(self, window: Window, encode: StageFunction, parameters: Mapping[str, Any]) -> tuple[Stage, ...]:
        """The stages that hold the latents of a window's frames. encode: the method's."""
        return tuple(
            Stage(encode, parameters, (), self.roots, chunk, cost=0.06 * (chunk[1] - chunk[0] + 1))
            for chunk in self.grid.chunks()
            if chunk[0] <= window.span[1] and chunk[1] >= window.span[0]
        )

    def anchoring(self, key: KeyframeRef, window: Window, walk: Sequence[object], handover: str) -> tuple[Stage, ...]:
        """The stages that tell the matte of the frame that a window is handed by the one before; none where all of
        that frame is taken."""
        known = self._laid["matte"] == "tracked" and window.anchor != key.frame
        return self.tracked.of(key.frame, (window.anchor,) * 2) if walk and known and handover == "anchored" else ()

    def plan(self) -> list[Stage]:
        """The stages in the order that streams results soonest; without keyframes, those to prepare."""
        if not self.keyframes:
            return self._prepared()
        for key in self.keyframes:
            self.stages.add(self.tracked.at_key(key.frame))
        for before, after in zip([None, *self.keyframes], [*self.keyframes, None], strict=True):
            self._interval(before, after)
        return self.stages.stages

    def _prepared(self) -> list[Stage]:
        """As for a keyframe on the first frame, then on the last."""
        for ends in ((self.info.first, self.info.last), (self.info.last, self.info.first)):
            walk: list[Window] = []
            for window in self.grid.walk(*ends):
                self.prepare(window, walk)
                walk.append(window)
        for stage in self.tracked.prepared:
            self.stages.add(stage)
        return self.stages.stages

    def _interval(self, before: KeyframeRef | None, after: KeyframeRef | None) -> None:
        """The frames between two neighbouring keyframes, or from the outermost one to the shot's end."""
        first = before.frame + 1 if before else self.info.first
        last = after.frame - 1 if after else self.info.last
        if first > last:
            return
        if before is None or after is None:
            key, end = (before, last) if before else (after, first)
            for painted in self._walk(key, end):
                self._result(painted.span, [painted])
            return
        ahead = list(self._walk(before, last))
        for behind in self._walk(after, first):
            for painted in reversed(ahead):
                span = (max(painted.span[0], behind.span[0]), min(painted.span[1], behind.span[1]))
                if span[0] <= span[1]:
                    self._result(span, [painted, behind])

    def _walk(self, key: KeyframeRef | None, end: int) -> Iterator[Painted]:
        """The windows from a keyframe outward to the frame `end`, each from the one before."""
        assert key is not None
        walk: list[tuple[Window, Stage]] = []
        windows = list(self.grid.walk(key.frame, end))
        for window in windows:
            stage = self.paint(key, window, walk, window is not windows[-1])
            walk.append((window, stage))
            self.stages.add(stage)
            yield Painted(key, window.written, self.shown(window, stage))

    def _result(self, span: tuple[int, int], sides: Sequence[Painted]) -> None:
        """The painted frames of a span from one or two keyframes' windows."""
        tracked = [self.tracked.of(side.key.frame, span) for side in sides]
        counts = [[len(side.stages), len(stages)] for side, stages in zip(sides, tracked, strict=True)]
        self.stages.add(
            Stage(
                self._publish,
                {**self._laid, "sides": counts},
                tuple(s for side, stages in zip(sides, tracked, strict=True) for s in (*side.stages, *stages)),
                (*self.roots, *(side.key.digest for side in sides)),
                span,
                needs_keyframe=True,
                cost=0.05 * (span[1] - span[0] + 1),
            )
        )


def seen_as(info: SourceInfo, model: ModelFolder, area: int, fit: Fit) -> dict[str, Any]:
    """Stages' parameters that say how a model sees a shot: the model, the size of its pictures, and of the plate in
    them. area: pixels of a picture, at most."""
    framing = Framing.of((info.width, info.height), area, models.video_shape(model.path).multiple, fit)
    return {"model": model.name, "size": framing.size, "inner": framing.inner}


def working_area(info: SourceInfo, model: ModelFolder, long_side: int) -> int:
    """Pixels of a picture that the model works on. long_side: of it, as was asked; 0: what the model was trained on."""
    if long_side:
        return round(long_side**2 * min(info.width, info.height) / max(info.width, info.height))
    return models.video_shape(model.path).area


def with_model(
    load: Callable[[Stage], Model],
) -> Callable[[Callable[[Context, Stage, Model], Tensors]], Callable[[Context, Stage], Tensors]]:
    """Makes a stage's function of one that computes with a model. Where memory runs out beyond the calls that the model
    itself does again, all of the stage is done again, one tier lower; `short_of_memory` tells.

    load: gives the stage's model. Raises PaintoverError where the GPU fails, with what to do."""

    def decorated(function: Callable[[Context, Stage, Model], Tensors]) -> Callable[[Context, Stage], Tensors]:
        @functools.wraps(function)
        def computed(context: Context, stage: Stage) -> Tensors:
            from paintover_engine.diffusion.memory import gpu

            with gpu():
                model = load(stage)
            model.notes.clear()
            output = model.persist(lambda: function(context, stage, model))
            if model.notes:
                told = np.frombuffer(model.notes[-1].encode(), np.uint8)
                context.keep_checkpoint(_told(stage), {"told": told})
            return output

        return computed

    return decorated


def short_of_memory(context: Context, stages: Sequence[Stage]) -> list[str]:
    """What a finished job tells of memory that ran out in its stages, and of how it went on."""
    kept = (context.checkpoint(_told(stage)) for stage in stages)
    return list(dict.fromkeys(bytes(words["told"]).decode() for words in kept if words is not None))


def _told(stage: Stage) -> Stage:
    """Stands for what is told of a stage, which has no place in its output: frames and adapters hold no words."""
    return dataclasses.replace(stage, roots=(*stage.roots, "told"))


def framing(context: Context, stage: Stage) -> Framing:
    """How the plate lies in the model's pictures."""
    size, inner = stage.parameters["size"], stage.parameters["inner"]
    return Framing((context.info.width, context.info.height), (size[0], size[1]), (inner[0], inner[1]))


def plate(context: Context, stage: Stage, number: int) -> Tensor:
    """(1, 3, h, w) in [-1, 1]: a frame of the plate as the model sees it."""
    return _seen(context, stage, context.plate(number).working())


def keyframe(context: Context, stage: Stage) -> Tensor:
    """(1, 3, h, w) in [-1, 1]: the keyframe of the stage's last root as the model sees it; with the artist's matte, the
    paint inside it."""
    key = context.keyframe(stage.roots[-1])
    if key.matte is None:
        return _seen(context, stage, key.working)
    behind = context.plate(key.frame).working()
    return _seen(context, stage, behind + (key.working - behind) * key.matte[..., None])


def anchored(context: Context, stage: Stage, number: int, painted: Tensor, latents: Tensor) -> Tensor:
    """The latents (1, 4, h, w) of a frame that a window is handed: `painted` in the matte that the stage's inputs tell,
    the plate's own `latents` around it; all of it painted where they tell none."""
    import torch

    from paintover_engine.diffusion.latents import anchored as blended

    tracked = [needed for needed in stage.inputs if needed.function in (matte, colour, learn, propagate)]
    if not tracked:
        return painted
    view = View(context.plate(number), (0, 0, context.info.width, context.info.height))
    alpha = load_layer(context, tracked).composite(number, view)[1]
    seen = framing(context, stage).to_model(np.dstack([alpha] * 3))[..., 0]
    return blended(painted, latents, torch.from_numpy(seen)[None, None].to(painted).clamp(0, 1))


def result(
    context: Context, stage: Stage, change: Callable[[Context, Stage, Sequence[Stage]], Callable[[int], Picture]]
) -> Iterator[ResultFrame]:
    """The painted frames of a span. change: of the picture at a frame, by the stages that show what was painted."""
    sides, rest = [], list(stage.inputs)
    for painted, tracked in stage.parameters["sides"]:
        changed = change(context, stage, rest[:painted])
        sides.append(Repainted(load_layer(context, rest[painted : painted + tracked]), changed))
        rest = rest[painted + tracked :]
    yield from composite(context, stage.frames, sides, stage.parameters["matte"], stage.parameters["softness"])


def _seen(context: Context, stage: Stage, working: Picture) -> Tensor:
    import torch

    picture = framing(context, stage).to_model(np.clip(np.nan_to_num(working), 0, 1))
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None] * 2 - 1


def pictures(decoded: Tensor) -> NDArray[np.float32]:
    """(F, h, w, 3), 0..1 and a little beyond, of the VAE's pictures (F, 3, h, w)."""
    return np.asarray((decoded / 2 + 0.5).clamp(-_BEYOND, 1 + _BEYOND).permute(0, 2, 3, 1).cpu().numpy())


def array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as a stage keeps it."""
    return np.asarray(tensor.detach().float().cpu().numpy())
