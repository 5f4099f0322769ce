"""Shots in memory, for methods whose stages are run one by one as a runner does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paintover_engine.media.correction import Correction, Drag
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe import Keyframe
from paintover_engine.media.plate import ImagePlate
from paintover_engine.methods.stage import KeyframeRef, ResultFrame, Stage, Tensors
from paintover_engine.methods.tensors import from_tensors, to_tensors

Frame = NDArray[np.uint8]  # (H, W, 3)


@dataclass(eq=False, kw_only=True)
class MemoryShot:
    """The `Context` that stages read.

    name: tells one plate from another; mattes: the artist's, by frame; corrections: by digest; kept, checkpoints:
    outputs by key; ran: the stages that were run, in order. A subclass gives `plates` and `painted`, by frame."""

    name: str = "plate"
    mattes: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    corrections: dict[str, Correction | Drag] = field(default_factory=dict)
    kept: dict[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    checkpoints: dict[str, Tensors] = field(default_factory=dict)
    ran: list[Stage] = field(default_factory=list)
    plates: Sequence[Frame] = field(init=False)
    painted: Sequence[Frame] | Mapping[int, Frame] = field(init=False)

    @property
    def info(self) -> SourceInfo:
        height, width = self.plates[0].shape[:2]
        return SourceInfo(
            "shot", "frames", 0, len(self.plates) - 1, width, height, "uint8", 3, None, False, "", "", False,
            1, "", False, (), self.name,
        )  # fmt: skip

    def plate(self, number: int) -> ImagePlate:
        return ImagePlate(number, self.plates[number], (0, 1, 2), None, "")

    def keyframe(self, digest: str) -> Keyframe:
        number = int(digest.removeprefix("key"))
        working = self.painted[number].astype(np.float32) / np.float32(255)
        return Keyframe(number, working, self.mattes.get(number), (), digest)

    def correction(self, digest: str) -> Correction | Drag:
        return self.corrections[digest]

    def load(self, stage: Stage) -> Any:
        return from_tensors(stage.function.output, self.kept[stage.key])

    def checkpoint(self, stage: Stage) -> Mapping[str, NDArray[Any]] | None:
        return self.checkpoints.get(stage.key)

    def keep_checkpoint(self, stage: Stage, tensors: Tensors) -> None:
        self.checkpoints[stage.key] = tensors

    def check(self) -> None:
        return

    def run_stages(
        self, stages: Iterable[Stage], wanted: Callable[[Stage], bool] = lambda stage: True
    ) -> dict[int, ResultFrame]:
        """Runs those of a plan that are wanted and not kept yet, in its order; the published frames by number."""
        frames: dict[int, ResultFrame] = {}
        for stage in stages:
            if stage.key not in self.kept and wanted(stage):
                self.ran.append(stage)
                output = stage.function(self, stage)
                if stage.publishes:
                    frames |= {frame.number: frame for frame in output}
                else:
                    self.kept[stage.key] = to_tensors(output)
        return frames


def refs(numbers: Iterable[int]) -> list[KeyframeRef]:
    """Keyframes as a `MemoryShot` knows them."""
    return [KeyframeRef(number, f"key{number}") for number in numbers]


def composed(plate: Frame, frame: ResultFrame) -> Frame:
    """A result frame over its plate, as `compose.composite` does."""
    x, y, width, height = frame.bounds
    result = plate.copy()
    part = result[y : y + height, x : x + width]
    painted = frame.painted.astype(np.float32)
    mixed = np.rint(part * (1 - painted[..., 3:]) + painted[..., :3] * 255 * painted[..., 3:])
    part[...] = np.where(painted[..., 3:] > 0, np.clip(mixed, 0, 255), part)
    return result
