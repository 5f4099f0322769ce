"""What is known about a source after probing it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class SourceInfo:
    """A range of frames of one source, checked: it exists, it is whole, its frames agree in size.

    path: absolute; a video file, a folder, a pattern, or a folder of uploaded frames.
    kind: "video", "sequence" or "frames" (uploaded arrays).
    first, last: frame numbers of the range, inclusive; a video counts from 0.
    width, height: upright, in pixels; of an EXR file's display window.
    sample: "uint8", "uint10", "uint12", "uint16", "half" or "float".
    channels: of one frame, alpha and further EXR channels included.
    rate: frames per second, None where nothing says; what most frames have where `variable_rate`.
    format: codec and samples in words ("h264 yuv420p", "exr half").
    colorspace: an OpenColorIO name, or "" for display-encoded as it is.
    pixel_aspect: width of a pixel over its height, upright.
    timecode: of frame `first`, "" where there is none.
    notes: sentences that the user should read.
    fingerprint: hex digest of what the range's pixels depend on: path, sizes, times of change, colour space, stream,
    layer.
    step: how far apart the numbers of a sequence's files are: each picture is held until the next (2: "on twos").
    stream: the number of a video's stream in its file; None for what is no video.
    layer: the name of the channels that are the picture, of an EXR file with several; else "".
    """

    path: str
    kind: str
    first: int
    last: int
    width: int
    height: int
    sample: str
    channels: int
    rate: Fraction | None
    variable_rate: bool
    format: str
    colorspace: str
    scene_linear: bool
    pixel_aspect: Fraction
    timecode: str
    has_audio: bool
    notes: tuple[str, ...]
    fingerprint: str
    stream: int | None = None
    layer: str = ""
    step: int = 1

    def is_held(self, number: int) -> bool:
        """Whether a frame shows the picture of one before it, and has no file of its own."""
        return (number - self.first) % self.step != 0

    @property
    def count(self) -> int:
        """Number of frames in the range."""
        return self.last - self.first + 1

    @property
    def bits(self) -> int:
        """Bits of a sample: 8, 10, 12, 16, or 32 for float."""
        return {"half": 16, "float": 32}.get(self.sample) or int(self.sample.removeprefix("uint"))

    def to_json(self) -> str:
        """One JSON object, which `from_json` reads back to an equal value."""
        values = dataclasses.asdict(self)
        values["rate"] = str(self.rate) if self.rate else None
        values["pixel_aspect"] = str(self.pixel_aspect)
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> SourceInfo:
        """The value that `to_json` wrote."""
        values = json.loads(text)
        values["rate"] = Fraction(values["rate"]) if values["rate"] else None
        values["pixel_aspect"] = Fraction(values["pixel_aspect"])
        values["notes"] = tuple(values["notes"])
        return cls(**values)
