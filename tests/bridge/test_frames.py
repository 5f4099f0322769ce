from __future__ import annotations

import mmap
from pathlib import Path

import pytest
from paintover.v1 import frame_pb2
from paintover_bridge.errors import ClientError
from paintover_bridge.frames import CHUNK_BYTES, MappedRegion, UploadFrame, assemble, upload_messages


def header(number: int, size: int) -> frame_pb2.FrameChunk:
    bounds = frame_pb2.DataWindow(x=1, y=2, width=3, height=4)
    return frame_pb2.FrameChunk(
        frame=frame_pb2.Frame(number=number, width=9, height=8, channels=4, data_window=bounds, byte_size=size)
    )


def data(content: bytes) -> frame_pb2.FrameChunk:
    return frame_pb2.FrameChunk(data=content)


def test_frames_are_assembled_from_chunks() -> None:
    frames = list(assemble([header(1, 5), data(b"abc"), data(b"de"), header(2, 0), header(3, 1), data(b"f")]))
    assert [(frame.number, bytes(frame.pixels())) for frame in frames] == [(1, b"abcde"), (2, b""), (3, b"f")]
    assert frames[0].bounds == (1, 2, 3, 4)


def test_frame_is_yielded_before_the_next_arrives() -> None:
    def chunks() -> object:
        yield header(1, 1)
        yield data(b"a")
        raise AssertionError("asked for more than the first frame needs")

    assert next(assemble(chunks())).number == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("rest", [[], [header(2, 0)]])
def test_a_frame_that_arrives_in_part_is_no_frame(rest: list[frame_pb2.FrameChunk]) -> None:
    with pytest.raises(ClientError, match="Frame 1 arrived with 2 bytes missing"):
        list(assemble([header(1, 5), data(b"abc"), *rest]))


def test_a_mapped_frame_is_read_at_any_offset(tmp_path: Path) -> None:
    path = tmp_path / "frame.safetensors"
    path.write_bytes(bytes(mmap.ALLOCATIONGRANULARITY + 13) + b"pixels" + b"after")
    chunk = header(1, 6)
    chunk.frame.mapped.path, chunk.frame.mapped.length = str(path), 6
    chunk.frame.mapped.offset = mmap.ALLOCATIONGRANULARITY + 13
    (frame,) = assemble([chunk])
    assert frame.mapped == MappedRegion(str(path), mmap.ALLOCATIONGRANULARITY + 13, 6)
    assert bytes(frame.pixels()) == b"pixels"
    assert frame.pixels().readonly


def test_a_mapped_file_that_is_gone_is_named(tmp_path: Path) -> None:
    chunk = header(1, 6)
    chunk.frame.mapped.path, chunk.frame.mapped.length = str(tmp_path / "gone"), 6
    (frame,) = assemble([chunk])
    with pytest.raises(ClientError, match="gone cannot be mapped"):
        frame.pixels()


def test_upload_sends_header_then_bounded_chunks() -> None:
    samples = bytes(range(256)) * 8192  # 2 MiB
    frame = UploadFrame(7, 1024, 2048, 1, "uint8", memoryview(samples).cast("H"))
    first, *rest = upload_messages("shots/a", [frame])
    assert (first.frame.shot, first.frame.number, first.frame.width, first.frame.height) == ("shots/a", 7, 1024, 2048)
    assert max(len(message.data) for message in rest) <= CHUNK_BYTES
    assert b"".join(message.data for message in rest) == samples
