"""Video files: opening them safely, choosing a stream, and decoding it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.fields import Fields, fields_of
from paintover_engine.media.hdr import Hdr

# Only containers that hold their own media: a playlist (hls, concat, dash) would open other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mxf,mxf_opatom,gxf,flv,asf,ogg,nut,dv,"
    "h264,hevc,vvc,m4v,ivf,av1,obu,yuv4mpegpipe,mjpeg,gif,apng,lxf,wtv,rm"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS, "enable_drefs": "0"}
_MAX_PIXELS = 2**28


def open_container(path: str) -> InputContainer:
    """Opens a local regular file that is a container of its own media.

    Raises PaintoverError for everything else: missing, a folder, a device, a playlist, no video at all.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' is not a regular file.")
    if status.st_size == 0:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' is empty.")
    try:
        return av.open(f"file:{os.path.abspath(path)}", "r", options=_OPTIONS, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> PaintoverError:
    if isinstance(error, FileNotFoundError):
        return PaintoverError(Code.NOT_FOUND, f"There is no file '{path}'; check the path.")
    if isinstance(error, PermissionError):
        return PaintoverError(Code.PERMISSION_DENIED, f"'{path}' may not be read by this user; check its permissions.")
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"'{path}' cannot be read as a video: it is damaged, cut off before its index, or of a kind that is not read.",
    )


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The real video streams of a file, without cover pictures."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def video_stream(container: InputContainer, path: str, number: int | None = None) -> VideoStream:
    """A video stream, ready to decode with threads.

    number: its number in the file, as ffprobe tells it; None: the first that the file marks as the default, else the
    first at all.
    Raises PaintoverError where there is none, or none of that number, or one that cannot be decoded.
    """
    streams = video_streams(container)
    if not streams:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{path}' holds no video; name a video file or a folder of images."
        )
    if number is None:
        stream = next((each for each in streams if each.disposition & Disposition.default), streams[0])
    else:
        stream = next((each for each in streams if each.index == number), None)  # type: ignore[assignment]
        if stream is None:
            listed = ", ".join(map(stream_label, streams))
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"'{path}' has no video stream {number}; its video streams are {listed}."
            )
    if stream.codec_context is None:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"No decoder here reads the video in '{path}'.")
    if stream.width * stream.height > _MAX_PIXELS:
        size = f"{stream.width}x{stream.height}"
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' says that it is {size}, which is too large.")
    stream.thread_type = "AUTO"
    return stream


def stream_label(stream: VideoStream) -> str:
    """ "1 (h264 1920x1080)": how a video stream is called in sentences."""
    codec = stream.codec_context.name if stream.codec_context else "unknown"
    return f"{stream.index} ({codec} {stream.width}x{stream.height})"


def decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """All frames from where the container stands; packets that cannot be decoded are passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError):
            return
        except av.error.FFmpegError:  # the file breaks off: what the decoder still holds comes out below
            packet = None
        if packet is not None and packet.is_corrupt:
            continue  # a part of a packet would make the decoder drop whole frames at the end
        try:
            yield from stream.decode(packet if packet is not None and packet.size else None)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            pass
        if packet is None:
            return


@dataclass(frozen=True)
class Description:
    """What a video's container and its first frame state.

    number: of the stream in the file; others: labels of the file's other video streams.
    pix_fmt: FFmpeg's name of the decoder's pixel format.
    tags: metadata of the file and of the stream, names in lower case.
    """

    number: int
    label: str
    others: tuple[str, ...]
    codec: str
    pix_fmt: str
    tags: dict[str, str]
    has_audio: bool
    fields: Fields
    hdr: Hdr | None


def describe(path: str, number: int | None = None) -> Description:
    """Looks at a video's header and its first frame. number: as `video_stream`'s. Raises PaintoverError as that."""
    with open_container(path) as container:
        stream = video_stream(container, path, number)
        context = stream.codec_context
        frame = next(decoded(container, stream), None)
        if frame is None:
            raise PaintoverError(Code.DATA_LOSS, f"'{path}' holds no whole video frame.")
        return Description(
            number=stream.index,
            label=stream_label(stream),
            others=tuple(stream_label(other) for other in video_streams(container) if other.index != stream.index),
            codec=context.name,
            pix_fmt=frame.format.name,
            tags={key.lower(): value for key, value in (container.metadata | stream.metadata).items()},
            has_audio=bool(container.streams.audio),
            fields=fields_of(frame),
            hdr=Hdr.of(frame),
        )
