"""Frames as they cross the wire: put together from chunks, taken apart into chunks."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Union

from paintover.v1 import frame_pb2, shot_pb2

from paintover_bridge.errors import ClientError

CHUNK_BYTES = 1 << 20
Buffer = Union[bytes, bytearray, memoryview]

SAMPLE_TYPES = {
    "uint8": shot_pb2.SAMPLE_TYPE_UINT8,
    "uint16": shot_pb2.SAMPLE_TYPE_UINT16,
    "half": shot_pb2.SAMPLE_TYPE_HALF,
    "float": shot_pb2.SAMPLE_TYPE_FLOAT,
}


@dataclass(frozen=True)
class MappedRegion:
    """Where a frame's pixels lie in a file of this machine."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True)
class Frame:
    """One frame of a result, plate or matte.

    bounds: x, y, width, height of the rectangle that holds pixels, from the top left; outside it the matte is 0.
    confidence: 0 (do not trust it) to 1.
    data: the pixels, or empty when `mapped` says where they are. See `pixels`.
    """

    number: int
    width: int
    height: int
    bounds: tuple[int, int, int, int]
    channels: int
    revision: str
    final: bool
    confidence: float
    data: bytes = b""
    mapped: MappedRegion | None = None

    def pixels(self) -> memoryview:
        """The pixels inside the bounds: half floats, little-endian, channels interleaved, rows from the top. Read-only
        bytes; a mapped region is not copied. `numpy.frombuffer(frame.pixels(), "<f2").reshape(h, w, channels)`."""
        if self.mapped is None:
            return memoryview(self.data)
        return _map(self.mapped)


def _map(region: MappedRegion) -> memoryview:
    if region.length == 0:
        return memoryview(b"")
    skipped = region.offset % mmap.ALLOCATIONGRANULARITY
    try:
        with open(region.path, "rb") as file:
            mapped = mmap.mmap(
                file.fileno(), region.length + skipped, access=mmap.ACCESS_READ, offset=region.offset - skipped
            )
    except (OSError, ValueError) as error:
        raise ClientError("DATA_LOSS", f"The frame file {region.path} cannot be mapped ({error}).") from error
    return memoryview(mapped)[skipped:]


def assemble(chunks: Iterable[frame_pb2.FrameChunk]) -> Iterator[Frame]:
    """Frames from the chunks of a stream, each as soon as it is whole.

    Raises ClientError when the stream ends within a frame."""
    header: frame_pb2.Frame | None = None
    parts: list[bytes] = []
    missing = 0
    for chunk in chunks:
        if chunk.WhichOneof("part") == "frame":
            if missing:
                break
            header, parts = chunk.frame, []
            missing = 0 if header.HasField("mapped") else header.byte_size
        else:
            parts.append(chunk.data)
            missing -= len(chunk.data)
        if header is not None and missing == 0:
            yield _frame(header, b"".join(parts))
            header = None
    if missing:
        number = header.number if header is not None else "?"
        raise ClientError("DATA_LOSS", f"Frame {number} arrived with {missing} bytes missing; read it again.")


def _frame(header: frame_pb2.Frame, data: bytes) -> Frame:
    bounds, region = header.data_window, header.mapped
    return Frame(
        number=header.number,
        width=header.width,
        height=header.height,
        bounds=(bounds.x, bounds.y, bounds.width, bounds.height),
        channels=header.channels,
        revision=header.revision,
        final=header.final,
        confidence=header.confidence,
        data=data,
        mapped=MappedRegion(region.path, region.offset, region.length) if header.HasField("mapped") else None,
    )


@dataclass(frozen=True)
class UploadFrame:
    """One frame to send.

    type: of its samples: "uint8", "uint16", "half" or "float".
    data: rows from the top, channels (1: grey, 3: RGB, 4: RGBA) interleaved, little-endian, no padding.
    """

    number: int
    width: int
    height: int
    channels: int
    type: str
    data: Buffer


def upload_messages(shot: str, frames: Iterable[UploadFrame]) -> Iterator[shot_pb2.UploadFramesRequest]:
    """What `UploadFrames` takes: each frame's header, then its bytes in bounded chunks."""
    for frame in frames:
        header = shot_pb2.FrameHeader(
            shot=shot,
            number=frame.number,
            width=frame.width,
            height=frame.height,
            channels=frame.channels,
            type=SAMPLE_TYPES[frame.type],
        )
        yield shot_pb2.UploadFramesRequest(frame=header)
        samples = memoryview(frame.data).cast("B")
        for start in range(0, len(samples), CHUNK_BYTES):
            yield shot_pb2.UploadFramesRequest(data=bytes(samples[start : start + CHUNK_BYTES]))
