"""Reading any frame of a video by its number."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.container import decoded, open_container, video_stream
from paintover_engine.media.plate import Orientation, VideoPlate
from paintover_engine.media.video_index import VideoIndex, index_video
from paintover_engine.media.video_picture import VideoPicture, convert_frame

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


def picture_of(frame: av.VideoFrame) -> VideoPicture:
    """A decoder's frame, which the caller gives away, with a little-endian plane for every component: the same
    samples, so arranged."""
    name = frame.format.name
    if frame.format.is_big_endian and name.endswith("be"):
        name = name[:-2] + "le"
    name = _PLANAR.get(name, name)
    components = frame.format.components
    if name == frame.format.name and len({c.plane for c in components}) < len(components):
        name = "gbrp" if components[0].bits <= 8 else "gbrp16le"
    return VideoPicture.of(convert_frame(frame, name) if name != frame.format.name else frame)


class VideoReader:
    """Reads frames of a video by number, in runs as long as they ascend; a few runs may be under way at a time, as of
    stages that work side by side, for going back to one place and to the other would decode all between each time."""

    RUNS = max(3, min(8, (os.cpu_count() or 1) // 2))
    concurrent = False

    def __init__(self, path: str, colorspace: str, stream: int | None = None) -> None:
        """stream: as `video_stream`'s number."""
        self.index = index_video(path, stream)
        self._path = path
        self._colorspace = colorspace
        self._stream = stream
        self._runs = [self._run()]  # the last used last

    def _run(self) -> _Run:
        return _Run(self._path, self._colorspace, self.index, self._stream)

    def read_to(self, number: int) -> Iterator[VideoPlate]:
        """Yields the frames on the way to `number`, and it last. Raises PaintoverError where it is damaged."""
        near = [run for run in self._runs if run.worth_going_on(number)]
        if near:
            run = max(near, key=lambda run: run.position)
        elif len(self._runs) < self.RUNS and any(run.under_way for run in self._runs):
            run = self._run()
            self._runs.append(run)
        else:
            run = self._runs[0]
        self._runs.remove(run)
        self._runs.append(run)
        yield from run.read_to(number)

    def close(self) -> None:
        for run in self._runs:
            run.close()


def size_change(reader: VideoReader, first: VideoPlate, last: int) -> VideoPlate | None:
    """The first frame from which on a video has another size than in `first`, None where it has the same at the last
    key up to frame `last`. A size changes at a key only."""
    index = reader.index
    numbers = (index.number(pts) for _, pts in index.keys)
    keys = sorted(number for number in numbers if number is not None and first.number < number <= last)

    def changed(number: int) -> bool:
        plate = list(reader.read_to(number))[-1]
        return (plate.width, plate.height) != (first.width, first.height)

    if not keys or not changed(keys[-1]):
        return None
    place = bisect.bisect_left(keys, True, key=changed)
    return list(reader.read_to(keys[place]))[-1]


class _Run:
    """One decoder, and how far it is."""

    def __init__(self, path: str, colorspace: str, index: VideoIndex, stream: int | None) -> None:
        self._index = index
        self._path = path
        self._colorspace = colorspace
        self._number = stream
        self._container = open_container(path)
        self._stream = video_stream(self._container, path, stream)
        self._frames: Iterator[tuple[int, av.VideoFrame]] | None = None
        self.position = -1  # number of the last frame that came out
        self._sought = False  # the decoder started elsewhere than at the file's start
        self._orientation: Orientation | None = None
        self._aspect = Fraction(1)

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
                stored = self._stream.sample_aspect_ratio or Fraction(1)
                self._aspect = 1 / stored if self._orientation.turns % 2 else stored
            yield VideoPlate(found, picture_of(frame), self._orientation, self._colorspace, self._aspect)
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
        self._stream = video_stream(self._container, self._path, self._number)

    def _numbered(self, since: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decoded frames with their numbers, from a time on: those before it may lack what they refer to."""
        for frame in decoded(self._container, self._stream):
            number = self._index.number(frame.pts)
            if number is not None and frame.pts is not None and frame.pts >= since:
                yield number, frame

    def _counted(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decoded frames from the start of the file, numbered as they come."""
        yield from enumerate(decoded(self._container, self._stream))
