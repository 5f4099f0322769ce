"""Decoded video pictures as plain arrays, and swscale's conversions between their pixel formats.

Threads share pictures: stages and the writing of a result read the same frames of the source's cache. A libav frame
cannot be shared, not even for reading: a conversion overwrites the colour tags of the frame it reads for as long as it
runs, keeps its swscale context in that frame, and an encoder sets the frame's time. So no `av.VideoFrame` is kept
anywhere: the thread that decoded one makes a `VideoPicture` of it, whose arrays and tags never change, and whoever
converts or encodes makes a frame of its own (`frame_of`) that no other thread ever sees.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

Samples = NDArray[Any]

UNSPECIFIED = 2  # AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic

# To RGB exactly as ffmpeg does unasked, so that a frame exported with common tools and painted on differs only
# where it was painted; back from RGB at swscale's best rounding.
# Flags and matrices by FFmpeg's numbers: PyAV 17, the last for Python 3.10, has no names for some of them.
_TO_RGB = 0x4  # SWS_BICUBIC
_FROM_RGB = 0x4 | 0x40000 | 0x4000  # and SWS_ACCURATE_RND, SWS_FULL_CHR_H_INP
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # AVColorSpace to SWS_CS_*


@dataclass(frozen=True)
class ColourTags:
    """What a picture states about its colours, in FFmpeg's numbers.

    matrix: AVColorSpace; color_range: AVColorRange; primaries: AVColorPrimaries; transfer:
    AVColorTransferCharacteristic.
    """

    matrix: int = UNSPECIFIED
    color_range: int = 0
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @classmethod
    def of(cls, frame: av.VideoFrame) -> ColourTags:
        """Those of a libav frame."""
        numbers = frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc
        return cls(*(int(number) for number in numbers))

    def set_on(self, frame: av.VideoFrame) -> None:
        """Gives them to a libav frame."""
        frame.colorspace, frame.color_range = self.matrix, self.color_range
        frame.color_primaries, frame.color_trc = self.primaries, self.transfer


@dataclass(frozen=True, eq=False)
class VideoPicture:
    """A decoded picture. Never changes, so that threads share it without a lock.

    pix_fmt: FFmpeg's name of its pixel format: planar, little-endian.
    width, height: as it is stored, in pixels.
    planes: for each plane (h, w) uint8, uint16, float16 or float32, top row first, read-only.
    """

    pix_fmt: str
    width: int
    height: int
    planes: tuple[Samples, ...]
    tags: ColourTags

    def __post_init__(self) -> None:
        object.__setattr__(self, "planes", tuple(read_only(plane) for plane in self.planes))

    @classmethod
    def of(cls, frame: av.VideoFrame) -> VideoPicture:
        """A view of a libav frame in a planar, little-endian format, which the caller gives away."""
        count = len(planes_of(frame.format))
        planes = tuple(plane_array(frame, index) for index in range(count))
        return cls(frame.format.name, frame.width, frame.height, planes, ColourTags.of(frame))

    @property
    def format(self) -> av.VideoFormat:
        """What the pixel format's components and subsampling are."""
        return video_format(self.pix_fmt)

    @property
    def is_float(self) -> bool:
        """Whether the samples are floating-point numbers."""
        return bool(np.issubdtype(self.planes[0].dtype, np.floating))

    @property
    def bits(self) -> int:
        """Bits of a sample."""
        return int(self.format.components[0].bits)

    @property
    def peak(self) -> float:
        """The largest sample value of an integer plane; 1 for float ones."""
        return 1.0 if self.is_float else float(2**self.bits - 1)

    @property
    def is_rgb(self) -> bool:
        """Whether the planes are green, blue and red."""
        return bool(self.format.is_rgb)

    @property
    def alpha_plane(self) -> Samples | None:
        """(H, W), None where there is none."""
        index = next((c.plane for c in self.format.components if c.is_alpha), None)
        return None if index is None else self.planes[index]

    @property
    def nbytes(self) -> int:
        """Bytes of its samples."""
        return sum(int(plane.nbytes) for plane in self.planes)


@functools.cache
def video_format(pix_fmt: str) -> av.VideoFormat:
    """FFmpeg's description of a pixel format; constant, so that threads may share it."""
    return av.VideoFormat(pix_fmt)


def planes_of(layout: av.VideoFormat) -> list[int]:
    """The indices of a pixel format's planes."""
    return sorted({component.plane for component in layout.components})


def read_only(samples: Samples) -> Samples:
    """A view through which nothing can be written."""
    view = samples.view()
    view.flags.writeable = False
    return view


def plane_array(frame: av.VideoFrame, index: int) -> Samples:
    """(h, w) view of a libav frame's plane, writable, rows top first; the plane must hold one component."""
    plane = frame.planes[index]
    component = next(c for c in frame.format.components if c.plane == index)
    kind: Any = np.uint8 if component.bits <= 8 else np.dtype("<u2")
    if "f32" in frame.format.name:
        kind = np.dtype("<f4")
    elif "f16" in frame.format.name:
        kind = np.dtype("<f2")
    stride = abs(plane.line_size) // np.dtype(kind).itemsize
    rows = np.frombuffer(plane, kind)[: stride * component.height].reshape(component.height, stride)  # type: ignore[call-overload]
    return (rows if plane.line_size > 0 else rows[::-1])[:, : component.width]  # type: ignore[no-any-return]


def frame_of(picture: VideoPicture) -> av.VideoFrame:
    """A libav frame with its own copy of the samples, for the calling thread alone."""
    frame = av.VideoFrame(picture.width, picture.height, picture.pix_fmt)
    for index, plane in enumerate(picture.planes):
        plane_array(frame, index)[...] = plane
    picture.tags.set_on(frame)
    return frame


def matrix_of(tags: ColourTags, width: int, height: int) -> int:
    """The YUV matrix (SWS_CS_*) that a picture states; what players assume where it states none: BT.709 for HD, else
    BT.601."""
    if tags.matrix in _MATRICES:
        return _MATRICES[tags.matrix]
    large = max(width, height) >= 1280 or min(width, height) > 576
    return int(Colorspace.ITU709 if large else Colorspace.ITU601)


def range_of(tags: ColourTags, pix_fmt: str) -> ColorRange:
    """Full or limited range of a picture's samples; what its format implies where it states none."""
    if tags.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return ColorRange(tags.color_range)
    full = video_format(pix_fmt).is_rgb or pix_fmt.startswith("yuvj")
    return ColorRange.JPEG if full else ColorRange.MPEG


def convert_frame(
    frame: av.VideoFrame, pix_fmt: str, matrix: int | None = None, color_range: ColorRange | None = None
) -> av.VideoFrame:
    """A libav frame in another pixel format by swscale, same size; matrix and range stay the frame's unless given.

    frame: the calling thread's own; it is returned itself where nothing is to do. The result states its colour tags,
    with `color_range` where that is given.
    """
    tags = ColourTags.of(frame)
    own_matrix, own_range = matrix_of(tags, frame.width, frame.height), range_of(tags, frame.format.name)
    converted = frame.reformat(
        format=pix_fmt,
        src_colorspace=own_matrix,
        dst_colorspace=own_matrix if matrix is None else matrix,
        src_color_range=own_range,
        dst_color_range=own_range if color_range is None else color_range,
        interpolation=_FROM_RGB if frame.format.is_rgb else _TO_RGB,
        threads=1,
    )
    (tags if color_range is None else replace(tags, color_range=int(color_range))).set_on(converted)
    return converted


def rgb_of(picture: VideoPicture) -> Samples:
    """(H, W, 3) full-range RGB of a picture as it is stored: uint8 up to 8 bits, uint16 above; float ones as they are,
    float32 or float16."""
    if picture.is_float:
        planes = (2, 0, 1) if picture.is_rgb else (0, 0, 0)
        return np.stack([picture.planes[index] for index in planes], axis=2)
    packed = convert_frame(frame_of(picture), "rgb24" if picture.bits <= 8 else "rgb48le", color_range=ColorRange.JPEG)
    return packed.to_ndarray()


def rgb_as(rgb: NDArray[np.float32], like: VideoPicture, pix_fmt: str) -> VideoPicture:
    """RGB in a pixel format, with the matrix, range and tags of another picture.

    rgb: (H, W, 3) 0..1, clipped; what is not a number becomes 0.
    """
    height, width = rgb.shape[:2]
    frame = av.VideoFrame(width, height, "gbrp16le")
    frame.color_range = ColorRange.JPEG
    channels = cv2.split(np.clip(rgb, 0.0, 1.0))
    for plane, channel in enumerate((1, 2, 0)):  # OpenCV rounds, and makes 0 of what is not a number
        plane_array(frame, plane)[...] = cv2.multiply(channels[channel], 65535.0, dtype=cv2.CV_16U)
    matrix = matrix_of(like.tags, like.width, like.height)
    converted = convert_frame(frame, pix_fmt, matrix, range_of(like.tags, like.pix_fmt))
    like.tags.set_on(converted)
    return VideoPicture.of(converted)
