"""Videos: which frames a file holds, and reading any of them by number."""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import stat
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.picture import Picture, convert_frame
from paintover_engine.media.plate import Orientation, VideoPlate

# Only containers that hold their own media: a playlist (hls, concat, dash) would open other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,mxf,mxf_opatom,gxf,flv,asf,ogg,nut,dv,"
    "h264,hevc,vvc,m4v,ivf,av1,obu,yuv4mpegpipe,mjpeg,gif,apng,lxf,wtv,rm"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS, "enable_drefs": "0"}
_MAX_PIXELS = 2**29
# After a seek, the times of these are not those of a reading from the start.
_NOT_SEEKABLE = {"mpeg", "mpegvideo", "m4v", "h264", "hevc", "vvc", "obu", "av1"}
_REORDER = 16  # frames; no codec reorders further

# Formats whose components share a plane, and the planar format that holds the same samples.
_PLANAR = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "nv42": "yuv444p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "p410le": "yuv444p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p216le": "yuv422p16le",
    "p416le": "yuv444p16le",
    "yuyv422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyvy422": "yuv422p",
    "y210le": "yuv422p10le",
    "ya8": "gbrap",
    "ya16le": "gbrap16le",
    "pal8": "gbrap",
    "monow": "gray",
    "monob": "gray",
    "rgb24": "gbrp",
    "bgr24": "gbrp",
    "rgb0": "gbrp",
    "bgr0": "gbrp",
    "0rgb": "gbrp",
    "0bgr": "gbrp",
    "rgba": "gbrap",
    "bgra": "gbrap",
    "argb": "gbrap",
    "abgr": "gbrap",
    "rgb48le": "gbrp16le",
    "bgr48le": "gbrp16le",
    "rgba64le": "gbrap16le",
    "bgra64le": "gbrap16le",
    "x2rgb10le": "gbrp10le",
    "x2bgr10le": "gbrp10le",
}


def picture_of(frame: av.VideoFrame) -> Picture:
    """A decoder's frame, which the caller gives away, with a little-endian plane for every component: the same
    samples, so arranged."""
    name = frame.format.name
    if frame.format.is_big_endian and name.endswith("be"):
        name = name[:-2] + "le"
    name = _PLANAR.get(name, name)
    components = frame.format.components
    if name == frame.format.name and len({c.plane for c in components}) < len(components):
        name = "gbrp" if components[0].bits <= 8 else "gbrp16le"
    return Picture.of(convert_frame(frame, name) if name != frame.format.name else frame)


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The frames of a video's stream in the order of presentation.

    pts: their timestamps, ascending; in a file without them, 0, 1, 2, …
    time_base: seconds per unit of `pts`.
    places: the place of each in the order of decoding.
    keys: place and timestamp of what decoding may start at, by place; an edit list may hide such a frame.
    packets: timestamp and place of every packet, hidden ones too, by timestamp.
    timed: False where the file states no timestamps, so that a frame is found only by counting from the start.
    seekable: False where decoding must always begin at the start of the file.
    rate: frames per second; what most frames have where `variable`.
    expected: frames that the file says it holds, 0 where it does not say.
    truncated: the file ends before what it announces.
    """

    pts: NDArray[np.int64]
    time_base: Fraction
    places: NDArray[np.int64]
    keys: tuple[tuple[int, int], ...]
    packets: NDArray[np.int64]
    timed: bool
    seekable: bool
    rate: Fraction
    variable: bool
    expected: int
    truncated: bool

    @property
    def count(self) -> int:
        return len(self.pts)

    def number(self, pts: int | None) -> int | None:
        """The number of the frame with a timestamp, None where there is none."""
        if pts is None:
            return None
        place = int(np.searchsorted(self.pts, pts))
        return place if place < self.count and int(self.pts[place]) == pts else None

    def place(self, pts: int | None) -> int | None:
        """The place in the order of decoding of the packet with a timestamp, None where there is none."""
        if pts is None:
            return None
        row = int(np.searchsorted(self.packets[:, 0], pts))
        return int(self.packets[row, 1]) if row < len(self.packets) and self.packets[row, 0] == pts else None

    def starts_for(self, number: int) -> list[tuple[int, int]]:
        """Keys to start decoding at, nearest first, so that `number` and all after it come out whole.

        A frame that follows a key in the file but is shown before it needs the group before that key.
        """
        if not self.seekable:
            return []
        pts, place = int(self.pts[number]), int(self.places[number])
        last = bisect.bisect_right(self.keys, (place, pts))
        return [key for key in reversed(self.keys[:last]) if key[1] <= pts]

    def duration(self, number: int) -> int:
        """How long a frame is shown, in units of `time_base`."""
        if number + 1 < self.count:
            return int(self.pts[number + 1] - self.pts[number])
        return int(np.median(np.diff(self.pts))) if self.count > 1 else 1

    def start_time(self, number: int) -> Fraction:
        """When a frame begins, in seconds of the file's own timeline."""
        return int(self.pts[number]) * self.time_base

    def end_time(self, number: int) -> Fraction:
        """When a frame ends, in seconds of the file's own timeline."""
        return (int(self.pts[number]) + self.duration(number)) * self.time_base


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


def video_stream(container: InputContainer, path: str) -> VideoStream:
    """The first real video stream (not a cover picture), ready to decode with threads."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            if stream.codec_context is None:
                raise PaintoverError(Code.INVALID_ARGUMENT, f"No decoder here reads the video in '{path}'.")
            if stream.width * stream.height > _MAX_PIXELS:
                size = f"{stream.width}x{stream.height}"
                raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' says that it is {size}, which is too large.")
            stream.thread_type = "AUTO"
            return stream
    raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' holds no video; name a video file or a folder of images.")


def index_video(path: str) -> VideoIndex:
    """The frames of a video, found by reading its packets without decoding them. Kept for files read again.

    Raises PaintoverError where the file cannot be read or holds no video.
    """
    status = os.stat(path) if os.path.isfile(path) else None
    return _index_video(path, status.st_size if status else 0, status.st_mtime_ns if status else 0)


@functools.lru_cache(maxsize=8)
def _index_video(path: str, _size: int, _mtime_ns: int) -> VideoIndex:
    with open_container(path) as container:
        stream = video_stream(container, path)
        scan = _Scan()
        scan.read(container, stream)
        if not scan.packets:
            raise PaintoverError(Code.DATA_LOSS, f"'{path}' holds no whole video frame.")
        if not scan.timed or _packets_mislead(container, stream):
            return _index_by_decoding(path)
        return scan.index(container, stream)


def _packets_mislead(container: InputContainer, stream: VideoStream) -> bool:
    """VP8 has packets that are never shown, and AVI numbers its packets in the order of decoding."""
    context = stream.codec_context
    return context.name == "vp8" or (container.format.name == "avi" and context.has_b_frames)


@dataclass(frozen=True)
class _Packet:
    pts: int
    key: bool
    hidden: bool  # by an edit list; it may still be needed to decode others


class _Scan:
    """One reading of all packets of a file."""

    def __init__(self) -> None:
        self.packets: list[_Packet] = []
        self.timed = True
        self.seen = 0  # video packets, whole or not, shown or not
        self.end = 0.0  # seconds; the latest end of any stream's packet

    def read(self, container: InputContainer, stream: VideoStream) -> None:
        try:
            for packet in container.demux():
                self._add(packet, packet.stream is stream or packet.stream_index == stream.index)
        except av.error.FFmpegError:
            pass  # the file breaks off here; what was read so far is what there is

    def _add(self, packet: Any, is_video: bool) -> None:
        if packet.size == 0:
            return
        if packet.pts is not None and packet.time_base:
            self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if not is_video:
            return
        self.seen += 1
        if packet.is_corrupt:
            return
        if packet.pts is None:
            self.timed = False
        self.packets.append(_Packet(packet.pts or 0, packet.is_keyframe, packet.is_discard))

    def index(self, container: InputContainer, stream: VideoStream) -> VideoIndex:
        first = next((place for place, packet in enumerate(self.packets) if packet.key), 0)
        # What precedes the first key, in either order, refers to frames that the file does not hold.
        usable = {
            packet.pts: (place, packet)
            for place, packet in reversed(list(enumerate(self.packets)))
            if place >= first and packet.pts >= self.packets[first].pts
        }
        ordered = sorted(usable.items())
        shown = [(pts, place) for pts, (place, packet) in ordered if not packet.hidden]
        pts = np.array([row[0] for row in shown], np.int64)
        truncated = self._truncated(container, stream)
        keep = _unbroken(pts) if truncated else len(pts)
        time_base = cast(Fraction, stream.time_base)
        rate, variable = _rate(pts[:keep], time_base, stream)
        return VideoIndex(
            pts=pts[:keep],
            time_base=time_base,
            places=np.array([row[1] for row in shown[:keep]], np.int64),
            keys=tuple(sorted((place, when) for when, (place, packet) in ordered if packet.key)),
            packets=np.array([(when, place) for when, (place, _) in ordered], np.int64),
            timed=True,
            seekable=container.format.name not in _NOT_SEEKABLE,
            rate=rate,
            variable=variable,
            expected=stream.frames,
            truncated=truncated,
        )

    def _truncated(self, container: InputContainer, stream: VideoStream) -> bool:
        if stream.frames and "avi" not in container.format.name:
            return self.seen < stream.frames or len(self.packets) == 0
        if not container.duration or container.format.name in ("mpegts", "mpeg"):  # their duration is only estimated
            return False
        start = (container.start_time or 0) / av.time_base
        announced = container.duration / av.time_base
        return self.end - start < announced - max(0.5, 0.002 * announced)


def _unbroken(pts: NDArray[np.int64]) -> int:
    """How many frames precede the first gap near a truncated file's end, where referenced frames are missing."""
    steps = np.diff(pts)
    if not len(steps):
        return len(pts)
    usual = float(np.median(steps))
    near_end = max(0, len(steps) - _REORDER)
    gaps = np.nonzero(steps[near_end:] > 1.5 * usual)[0]
    return near_end + int(gaps[0]) + 1 if len(gaps) else len(pts)


def _rate(pts: NDArray[np.int64], time_base: Fraction, stream: VideoStream) -> tuple[Fraction, bool]:
    """Frames per second, and whether the frames' distances vary beyond rounding to the time base."""
    stated = stream.average_rate or stream.guessed_rate or Fraction(25)
    if len(pts) < 2:
        return stated, False
    steps = np.diff(pts)
    usual = statistics.median(steps.tolist())
    variable = bool(np.abs(steps - usual).max() > max(1.0, 0.02 * usual))
    step = Fraction(usual) * time_base if variable else int(pts[-1] - pts[0]) * time_base / len(steps)
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        # A stated rate is exact (30000/1001), a measured one is only as fine as the time base.
        if rate and abs(1 / rate - step) * (1 if variable else len(steps)) <= 2 * time_base:
            return rate, variable
    return (1 / step).limit_denominator(1001), variable


def _index_by_decoding(path: str) -> VideoIndex:
    """The index of a file without timestamps, or with packets that show nothing: what decoding it gives."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        times = [frame.pts for frame in decoded(container, stream)]
        count = len(times)
        rate, variable = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25), False
        known = [pts for pts in times if pts is not None]
        timed = len(known) == count and all(a < b for a, b in itertools.pairwise(known))
        pts = np.array(known, np.int64) if timed else np.arange(count)
        time_base = cast(Fraction, stream.time_base) if timed else 1 / rate
        if timed:
            rate, variable = _rate(pts, time_base, stream)
        places = np.arange(count)
        packets = np.stack([pts, places], axis=1)
        return VideoIndex(pts, time_base, places, (), packets, timed, False, rate, variable, 0, False)


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


class VideoReader:
    """Reads frames of a video by number, in runs as long as they ascend; a few runs may be under way at a time, as of
    stages that work side by side, for going back to one place and to the other would decode all between each time."""

    RUNS = 3

    def __init__(self, path: str, colorspace: str) -> None:
        self.index = index_video(path)
        self._path = path
        self._colorspace = colorspace
        self._runs = [_Run(path, colorspace, self.index)]  # the last used last

    def read_to(self, number: int) -> Iterator[VideoPlate]:
        """Yields the frames on the way to `number`, and it last. Raises PaintoverError where it is damaged."""
        near = [run for run in self._runs if run.worth_going_on(number)]
        if near:
            run = max(near, key=lambda run: run.position)
        elif len(self._runs) < self.RUNS and any(run.under_way for run in self._runs):
            run = _Run(self._path, self._colorspace, self.index)
            self._runs.append(run)
        else:
            run = self._runs[0]
        self._runs.remove(run)
        self._runs.append(run)
        yield from run.read_to(number)

    def close(self) -> None:
        for run in self._runs:
            run.close()


class _Run:
    """One decoder, and how far it is."""

    def __init__(self, path: str, colorspace: str, index: VideoIndex) -> None:
        self._index = index
        self._path = path
        self._colorspace = colorspace
        self._container = open_container(path)
        self._stream = video_stream(self._container, path)
        self._frames: Iterator[tuple[int, av.VideoFrame]] | None = None
        self.position = -1  # number of the last frame that came out
        self._sought = False  # the decoder started elsewhere than at the file's start
        self._orientation: Orientation | None = None

    def read_to(self, number: int) -> Iterator[VideoPlate]:
        """As the reader's."""
        if not self.worth_going_on(number):
            self._start(number)
        yield from self._onward_to(number)
        if self.position == number:
            return
        if self._sought:  # some files' keys are none: what comes out from the very start is what there is
            self._start_over()
            yield from self._onward_to(number)
            if self.position == number:
                return
        self._frames = None
        raise PaintoverError(Code.DATA_LOSS, f"Frame {number} of '{self._path}' is damaged and cannot be decoded.")

    def _onward_to(self, number: int) -> Iterator[VideoPlate]:
        """Yields decoded frames up to `number`, and stops early where it does not come."""
        for found, frame in cast("Iterator[tuple[int, av.VideoFrame]]", self._frames):
            self.position = found
            if found > number:
                break
            if self._orientation is None:
                # Once a file, not once a frame: a PyAV frame whose side data was read is held by it in a circle,
                # and its picture stays in memory until Python looks for circles.
                self._orientation = Orientation.of(frame)
            yield VideoPlate(found, picture_of(frame), self._orientation, self._colorspace)
            if found == number:
                return

    def close(self) -> None:
        self._frames = None
        self._container.close()

    @property
    def under_way(self) -> bool:
        return self._frames is not None

    def worth_going_on(self, number: int) -> bool:
        """Whether `number` is sooner reached from here than from a key of the file."""
        if self._frames is None or number <= self.position:
            return False
        starts = self._index.starts_for(number)
        return not starts or starts[0][0] <= self._index.places[max(self.position, 0)] + 1

    def _start(self, number: int) -> None:
        """Places the decoder at the nearest key from which `number` comes out whole."""
        self.position = -1
        for place, pts in self._index.starts_for(number):
            if self._seek(place, pts):
                self._frames = self._numbered(pts)
                self._sought = True
                return
        self._start_over()

    def _start_over(self) -> None:
        """Places the decoder at the start of the file."""
        self._reopen()
        self.position, self._sought = -1, False
        self._frames = self._numbered(int(self._index.pts[0])) if self._index.timed else self._counted()

    def _seek(self, place: int, pts: int) -> bool:
        """Seeks to a key; False where the container lands behind it."""
        try:
            self._container.seek(pts, stream=self._stream)
            for packet in self._container.demux(self._stream):
                landed = self._index.place(packet.pts)
                if landed is not None:
                    self._container.seek(pts, stream=self._stream)
                    return landed <= place
        except av.error.FFmpegError:
            pass
        return False

    def _reopen(self) -> None:
        self._container.close()
        self._container = open_container(self._path)
        self._stream = video_stream(self._container, self._path)

    def _numbered(self, since: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decoded frames with their numbers, from a time on: those before it may lack what they refer to."""
        for frame in decoded(self._container, self._stream):
            number = self._index.number(frame.pts)
            if number is not None and frame.pts is not None and frame.pts >= since:
                yield number, frame

    def _counted(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decoded frames from the start of the file, numbered as they come."""
        yield from enumerate(decoded(self._container, self._stream))
