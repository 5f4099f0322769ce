"""A clip in memory as a job: stages run on it, and their outputs can be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paintover_engine.media.correction import Correction
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe import Keyframe
from paintover_engine.media.plate import ImagePlate
from paintover_engine.methods.stage import Stage, Tensors
from paintover_engine.methods.tensors import from_tensors, to_tensors

Video = NDArray[np.float32]  # (F, H, W, 3), 0..1


@dataclass(eq=False)
class ClipJob:
    """The `Context` that stages read.

    painted: (H, W, 3), the first frame with its edit: the keyframe.
    outputs: what stages returned, by their keys.
    """

    name: str
    video: Video
    painted: NDArray[np.float32]
    outputs: dict[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)

    @property
    def info(self) -> SourceInfo:
        height, width = self.video.shape[1:3]
        return SourceInfo(
            self.name, "frames", 0, len(self.video) - 1, width, height, "float", 3, None, False, "", "", False,
            Fraction(1), "", False, (), self.name,
        )  # fmt: skip

    def plate(self, number: int) -> ImagePlate:
        return ImagePlate(number, self.video[number], (0, 1, 2), None, "")

    def keyframe(self, digest: str) -> Keyframe:
        return Keyframe(0, self.painted, None, (), digest)

    def correction(self, digest: str) -> Correction:
        raise KeyError(digest)

    def load(self, stage: Stage) -> Any:
        return from_tensors(stage.function.output, self.outputs[stage.key])

    def checkpoint(self, stage: Stage) -> None:
        return

    def keep_checkpoint(self, stage: Stage, tensors: Tensors) -> None:
        return

    def check(self) -> None:
        return

    def run(self, stages: Sequence[Stage]) -> None:
        """Runs those whose output is not kept yet."""
        for stage in stages:
            if stage.key not in self.outputs:
                self.outputs[stage.key] = to_tensors(stage.function(self, stage))
