"""A stream's description for libav's muxers, with what PyAV has no setters for.

PyAV makes an output's stream after an input's, and takes over all that the input's container states. So what is to
be stated (HDR10's mastering display and content light level, the order of fields) is written as the header of a
Matroska file in memory, without any frame, and read back. Element IDs and types: RFC 9559, section 5.1.4.1.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable

import av
from av.container import InputContainer

from paintover_engine.media.fields import Fields
from paintover_engine.media.hdr import Hdr

_FIELD_ORDERS = {"tff": 1, "bff": 6}  # the field that is shown first is stored first, too
_CODECS = {"ffv1": "V_FFV1", "prores": "V_PRORES", "h264": "V_MPEG4/ISO/AVC"}


def stream_template(
    codec: str, width: int, height: int, extradata: bytes, hdr: Hdr | None, fields: Fields
) -> InputContainer:
    """A container whose one video stream is described as given; to be closed by the caller.

    codec: "ffv1", "prores" or "h264".
    """
    private = [_element(0x63A2, extradata)] if extradata else []
    interlaced = [_uint(0x9A, 1), _uint(0x9D, _FIELD_ORDERS[fields])] if fields else []
    colour = [_colour(hdr)] if hdr else []
    video = _element(0xE0, *interlaced, _uint(0xB0, width), _uint(0xBA, height), *colour)
    track = _element(
        0xAE,
        _uint(0xD7, 1),  # TrackNumber
        _uint(0x73C5, 1),  # TrackUID
        _uint(0x83, 1),  # TrackType: video
        _element(0x86, _CODECS[codec].encode()),
        *private,
        video,
    )
    header = _element(0x1A45DFA3, _element(0x4282, b"matroska"), _uint(0x4287, 4), _uint(0x4285, 2))
    segment = _element(
        0x18538067,
        _element(0x1549A966, _uint(0x2AD7B1, 1_000_000)),  # Info: TimestampScale
        _element(0x1654AE6B, track),
        _element(0x1F43B675, _uint(0xE7, 0)),  # an empty Cluster
    )
    return av.open(io.BytesIO(header + segment), "r", format="matroska")


def _colour(hdr: Hdr) -> bytes:
    parts: list[bytes] = []
    if hdr.light:
        parts += [_uint(0x55BC, hdr.light.pixel), _uint(0x55BD, hdr.light.frame)]
    if hdr.display:
        mastering: list[bytes] = []
        if hdr.display.primaries:
            coordinates = [value for point in hdr.display.primaries for value in point]
            mastering += _floats(range(0x55D1, 0x55D9), coordinates)
        if hdr.display.luminance:
            least, largest = hdr.display.luminance
            mastering += _floats((0x55DA, 0x55D9), (least, largest))
        parts.append(_element(0x55D0, *mastering))
    return _element(0x55B0, *parts)


def _floats(names: Iterable[int], values: Iterable[object]) -> list[bytes]:
    return [_element(name, struct.pack(">d", value)) for name, value in zip(names, values, strict=True)]


def _uint(name: int, value: int) -> bytes:
    return _element(name, value.to_bytes(8, "big"))


def _element(name: int, *content: bytes) -> bytes:
    """An EBML element: its ID, its size in eight bytes, its content."""
    data = b"".join(content)
    return name.to_bytes((name.bit_length() + 7) // 8, "big") + (len(data) | 1 << 56).to_bytes(8, "big") + data
