"""What the commands `propagate`, `prepare` and `paint` ask the engine for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paintover_bridge.timeline import ClipMedia


@dataclass(frozen=True)
class JobRequest:
    """What a job computes and where its result goes.

    source: a video file, a folder of numbered images, or a pattern.
    frames: first and last frame number, inclusive; None for the whole source.
    stream: the number of a video's stream in its file; None for the default one.
    layer: of an EXR source; "" for its beauty.
    output, mattes: what to write; None keeps the result in the engine only.
    clip: the timeline's clip that source, frames and frame rate come from; None for a source of its own.
    timeline: the .otio file to write when the output is written; "" without a clip or an output.
    """

    source: str
    frames: tuple[int, int] | None = None
    colorspace: str = ""
    stream: int | None = None
    layer: str = ""
    method: str = "draft"
    parameters: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    output: str | None = None
    mattes: str | None = None
    overwrite: bool = False
    versioned: bool = False
    priority: int = 0
    clip: ClipMedia | None = None
    timeline: str = ""

    def job_settings(self) -> dict[str, Any]:
        """The keyword arguments of `Client.create_job`, apart from its shot, keyframes and priority."""
        return {
            "method": self.method,
            "parameters": self.parameters,
            "model": self.model,
            "output": self.output,
            "overwrite": self.overwrite,
            "mattes": self.mattes,
            "versioned": self.versioned,
        }
