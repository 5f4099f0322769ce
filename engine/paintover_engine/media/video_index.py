"""Which frames a video holds, found from its packets."""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import statistics
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.container import decoded, open_container, video_stream

# After a seek, the times of these are not those of a reading from the start.
_NOT_SEEKABLE = {"mpeg", "mpegvideo", "m4v", "h264", "hevc", "vvc", "obu", "av1"}
_REORDER = 16  # frames; no codec reorders further


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

    def __post_init__(self) -> None:
        for shared in (self.pts, self.places, self.packets):  # by all who read the file
            shared.flags.writeable = False

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


def index_video(path: str, stream: int | None = None) -> VideoIndex:
    """The frames of a video, found by reading its packets without decoding them. Kept for files read again.

    stream: as `video_stream`'s number. Raises PaintoverError where the file cannot be read or holds no video.
    """
    status = os.stat(path) if os.path.isfile(path) else None
    return _index_video(path, stream, status.st_size if status else 0, status.st_mtime_ns if status else 0)


@functools.lru_cache(maxsize=8)
def _index_video(path: str, number: int | None, _size: int, _mtime_ns: int) -> VideoIndex:
    with open_container(path) as container:
        stream = video_stream(container, path, number)
        scan = _Scan()
        scan.read(container, stream)
        if not scan.packets:
            raise PaintoverError(Code.DATA_LOSS, f"'{path}' holds no whole video frame.")
        if not scan.timed or _packets_mislead(container, stream):
            return _index_by_decoding(path, number)
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


def _index_by_decoding(path: str, number: int | None) -> VideoIndex:
    """The index of a file without timestamps, or with packets that show nothing: what decoding it gives."""
    with open_container(path) as container:
        stream = video_stream(container, path, number)
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
