"""Opening what an artist names: probing it, and reading its frames."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import OpenImageIO as oiio

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media import colour, sequence, timecode, video
from paintover_engine.media.container import Description, describe
from paintover_engine.media.exr_layers import listed
from paintover_engine.media.image import Stored, converted_from, guess_colorspace, read_stored
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.plate import ImagePlate, Orientation, Plate, VideoPlate
from paintover_engine.media.source_files import CheckedReader, Reader, SourceFiles, changed
from paintover_engine.media.video_index import VideoIndex, index_video

__all__ = ["Source", "SourceInfo", "check_unchanged", "open_source", "probe"]

CACHE_BYTES = 64 * 2**20


class Source:
    """An open source. Reading is random access; ascending runs are quickest, and recent frames are kept."""

    def __init__(self, info: SourceInfo, reader: Reader, cache_bytes: int = CACHE_BYTES) -> None:
        self.info = info
        self._reader = reader
        self._cache: OrderedDict[int, Plate] = OrderedDict()
        self._room = cache_bytes
        self._lock = threading.Lock()  # of the cache
        self._reading = contextlib.nullcontext() if reader.concurrent else threading.Lock()

    def read(self, number: int) -> Plate:
        """The frame of a number in `info.first`..`info.last`. Raises PaintoverError where it is outside or damaged."""
        if not self.info.first <= number <= self.info.last:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"Frame {number} is not in the shot, which has frames {self.info.first} to {self.info.last}.",
            )
        if self.info.is_held(number):
            own = self.read(number - (number - self.info.first) % self.info.step)
            assert isinstance(own, ImagePlate)
            return dataclasses.replace(own, number=number)
        if (kept := self._kept(number)) is not None:
            return kept
        with self._reading:
            if (kept := self._kept(number)) is not None:  # another thread came by it meanwhile
                return kept
            for plate in self._reader.read_to(number):
                self._keep(plate)
            if (plate.width, plate.height) != (self.info.width, self.info.height):
                raise _another_size(self.info.path, plate, self.info.width, self.info.height, self.info.first)
            return plate

    def _kept(self, number: int) -> Plate | None:
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
            return self._cache.get(number)

    def _keep(self, plate: Plate) -> None:
        with self._lock:
            dropped = self._cache.pop(plate.number, None)
            self._room += dropped.nbytes if dropped else 0
            self._cache[plate.number] = plate
            self._room -= plate.nbytes
            while self._room < 0 and len(self._cache) > 1:
                self._room += self._cache.popitem(last=False)[1].nbytes

    def close(self) -> None:
        """Lets go of the file and of all kept frames."""
        with self._reading, self._lock:
            self._cache.clear()
            self._reader.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def probe(
    path: str | os.PathLike[str],
    first: int | None = None,
    last: int | None = None,
    colorspace: str = "",
    stream: int | None = None,
    layer: str = "",
) -> SourceInfo:
    """Looks at a source and checks all that can be checked without decoding it whole.

    path: a video file, a folder of numbered images, a pattern, or a folder of uploaded frames.
    first, last: the range, inclusive; None means the source's own first and last frame.
    colorspace: an OpenColorIO name; "" guesses.
    stream: the number of a video's stream in its file, as ffprobe tells it; None: the default one.
    layer: which of an EXR file's layers is the picture; "": its beauty.
    Raises PaintoverError with one sentence for whatever is wrong.
    """
    name = os.path.abspath(os.path.expanduser(os.fspath(path)))
    colorspace = colour.check_colorspace(colorspace)
    if first is not None and last is not None and last < first:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"The range {first}-{last} ends before it begins.")
    is_image = os.path.splitext(name)[1].lower() in sequence.EXTENSIONS
    if stream is not None and (is_image or not os.path.isfile(name)):
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{name}' is no video, which has streams; leave out --stream.")
    if os.path.isdir(name):
        frames = sequence.uploaded(Path(name))
        if frames is not None:
            return _probe_uploaded(name, frames, first, last, colorspace)
        return _probe_sequence(name, first, last, colorspace, layer)
    if not os.path.exists(name):
        if sequence.parse_pattern(name) is None or _of_windows(os.fspath(path)):
            raise _not_there(name, os.fspath(path))
        return _probe_sequence(name, first, last, colorspace, layer)
    if is_image:
        return _probe_sequence(name, first, last, colorspace, layer)
    if layer:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{name}' is a video, which has no layers; leave out --layer.")
    return _probe_video(name, first, last, colorspace, stream)


def _of_windows(path: str) -> bool:
    """Whether a path is written as Windows writes it, and this is no Windows."""
    return os.sep == "/" and ("\\" in path or re.match(r"[A-Za-z]:", path) is not None)


def _not_there(name: str, given: str) -> PaintoverError:
    if _of_windows(given):
        written = re.sub(r"^.*/(?=[A-Za-z]:|\\\\)", "", given)  # without the folder that a client put before it
        message = f"'{written}' is a path of Windows; give the path under which this machine sees those files."
        return PaintoverError(Code.NOT_FOUND, message)
    return PaintoverError(Code.NOT_FOUND, f"There is no file or folder '{name}'; check the path.")


def open_source(info: SourceInfo) -> Source:
    """Opens a probed source. Raises PaintoverError where it is gone, or has changed since it was probed; so does
    reading a frame."""
    reader: Reader
    files = check_unchanged(info)
    if info.kind == "video":
        reader = video.VideoReader(info.path, info.colorspace, info.stream)
    elif info.kind == "frames":
        frames = _uploaded(info.path)
        header = sequence.uploaded_header(frames.path(info.first))
        reader = sequence.UploadedReader(frames, header, info.colorspace)
    else:
        frames = sequence.find(info.path)
        header = read_stored(frames.path(info.first), info.layer).header
        reader = sequence.SequenceReader(frames, header, info.colorspace, info.layer)
    return Source(info, CheckedReader(reader, files))


def check_unchanged(info: SourceInfo) -> SourceFiles:
    """The files of a probed source. Raises PaintoverError where they are gone, or have changed since it was probed."""
    if info.kind == "video":
        files = SourceFiles(info.path, Path(info.path))
        fingerprint = _video_fingerprint(files, info.path, info.colorspace, info.stream)
    else:
        frames = _uploaded(info.path) if info.kind == "frames" else sequence.find(info.path)
        files = _sequence_files(info.path, frames, range(info.first, info.last + 1, info.step))
        fingerprint = _sequence_fingerprint(files, frames, info.colorspace, info.layer)
    if fingerprint != info.fingerprint:
        raise changed(info.path)
    return files


def content_digest(info: SourceInfo) -> str:
    """64 hex digits of a source's content, wherever it lies: each file's size, beginning and end."""
    return _files(info).content_digest()


def _files(info: SourceInfo) -> SourceFiles:
    """The files of a source, as they are now."""
    if info.kind == "video":
        return SourceFiles(info.path, Path(info.path))
    frames = _uploaded(info.path) if info.kind == "frames" else sequence.find(info.path)
    return _sequence_files(info.path, frames, range(info.first, info.last + 1, info.step))


def _uploaded(path: str) -> sequence.ImageSequence:
    frames = sequence.uploaded(Path(path))
    if frames is None:
        raise PaintoverError(Code.NOT_FOUND, f"The uploaded frames in '{path}' are gone.")
    return frames


def _sequence_files(path: str, frames: sequence.ImageSequence, numbers: range) -> SourceFiles:
    return SourceFiles(path, {number: frames.path(number) for number in numbers})


def _video_fingerprint(files: SourceFiles, path: str, colorspace: str, stream: int | None) -> str:
    return files.fingerprint("video", path, colorspace, stream)


def _sequence_fingerprint(files: SourceFiles, frames: sequence.ImageSequence, colorspace: str, layer: str = "") -> str:
    return files.fingerprint("sequence", str(frames.folder), frames.pattern, colorspace, layer)


def _check_count(path: str, first: int, last: int) -> None:
    if first == last:
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{path}' has one frame in its range, so there is nothing to propagate to."
        )


def _range(path: str, first: int | None, last: int | None, bounds: tuple[int, int]) -> tuple[int, int]:
    """The asked range within the source's own. Raises PaintoverError where it reaches beyond."""
    chosen = bounds[0] if first is None else first, bounds[1] if last is None else last
    if chosen[0] < bounds[0] or chosen[1] > bounds[1] or chosen[0] > chosen[1]:
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The range {chosen[0]}-{chosen[1]} reaches beyond '{path}', which has frames {bounds[0]} to {bounds[1]}.",
        )
    return chosen


def _whole_range(path: str, frames: sequence.ImageSequence, first: int | None, last: int | None) -> tuple[int, int]:
    """The asked range of a sequence. Raises PaintoverError where frames of it are missing."""
    start, end = _range(path, first, last, (frames.numbers[0], frames.numbers[-1]))
    present = [number for number in frames.numbers if start <= number <= end]
    if len(present) < end - start + 1:
        missing = [sequence.written(gap) for gap in sequence.gaps(present, start, end)]
        listed = ", ".join(missing[:12]) + (", …" if len(missing) > 12 else "")
        longest = max(sequence.runs(present), key=lambda run: run[1] - run[0], default=None)
        advice = "; number its files without gaps"
        if longest and longest[1] > longest[0]:
            advice = f"; the longest unbroken range is --range {longest[0]}-{longest[1]}"
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{frames.folder / frames.pattern}' has gaps: {listed} missing{advice}."
        )
    _check_count(path, start, end)
    return start, end


def _stepped(path: str, frames: sequence.ImageSequence, first: int | None, last: int | None) -> sequence.ImageSequence:
    """A stepped sequence's files within the asked range."""
    start, end = _range(path, first, last, (frames.numbers[0], frames.numbers[-1]))
    numbers = tuple(number for number in frames.numbers if start <= number <= end)
    if not numbers:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"'{path}' has no file in the range {start}-{end}.")
    return dataclasses.replace(frames, numbers=numbers)


def _probe_uploaded(
    path: str, frames: sequence.ImageSequence, first: int | None, last: int | None, colorspace: str
) -> SourceInfo:
    start, end = _whole_range(path, frames, first, last)
    files = _sequence_files(path, frames, range(start, end + 1))
    header = sequence.uploaded_header(frames.path(start))
    for number in range(start + 1, end + 1):
        other = sequence.uploaded_header(frames.path(number))
        if other != header:
            raise sequence.differs(frames.path(number), other.width, other.height, header)
    if not colorspace and header.sample in ("half", "float"):
        colorspace = colour.SCENE_LINEAR
    return SourceInfo(
        path=path,
        kind="frames",
        first=start,
        last=end,
        width=header.width,
        height=header.height,
        sample=header.sample,
        channels=header.channels,
        rate=sequence.uploaded_rate(Path(path)),
        variable_rate=False,
        format=f"frames {header.sample}",
        colorspace=colorspace,
        scene_linear=colour.is_scene_linear(colorspace),
        pixel_aspect=Fraction(1),
        timecode="",
        has_audio=False,
        notes=(),
        fingerprint=_sequence_fingerprint(files, frames, colorspace),
    )


def _probe_sequence(path: str, first: int | None, last: int | None, colorspace: str, layer: str) -> SourceInfo:
    frames = sequence.find(path)
    step = sequence.step_of(frames.numbers)
    if step > 1:
        frames = _stepped(path, frames, first, last)
        start, end = frames.numbers[0], frames.numbers[-1]
        _check_count(path, start, end)
    else:
        start, end = _whole_range(path, frames, first, last)
    numbers = range(start, end + 1, step)
    files = _sequence_files(path, frames, numbers)
    stored = read_stored(frames.path(start), layer)
    header, spec, layer = stored.header, stored.spec, stored.layer.name
    if converted_from(spec):
        kind = converted_from(spec)
        raise PaintoverError(
            Code.INVALID_ARGUMENT, f"'{frames.path(start)}' is {kind}, which no result can keep; save it as RGB."
        )
    for number in numbers[1:]:
        other = read_stored(frames.path(number), layer).header
        if (other.width, other.height) != (header.width, header.height):
            raise sequence.differs(frames.path(number), other.width, other.height, header)
    # One frame is read whole, so that a file of a kind that is only half understood fails here and not in the queue.
    plate = next(sequence.SequenceReader(frames, header, "", layer).read_to(start))
    colorspace = colorspace or guess_colorspace(spec, header.sample)
    return SourceInfo(
        path=path,
        kind="sequence",
        first=start,
        last=end,
        width=header.width,
        height=header.height,
        sample=header.sample,
        channels=header.channels,
        rate=sequence_rate(spec),
        variable_rate=False,
        format=f"{frames.extension.lstrip('.')} {header.sample}",
        colorspace=colorspace,
        scene_linear=colour.is_scene_linear(colorspace),
        pixel_aspect=Fraction(spec.get_float_attribute("PixelAspectRatio", 1.0) or 1.0).limit_denominator(1000),
        timecode=spec.get_string_attribute("smpte:TimeCode"),
        has_audio=False,
        notes=tuple(_sequence_notes(plate, stored, frames, step)),
        fingerprint=_sequence_fingerprint(files, frames, colorspace, layer),
        layer=layer,
        step=step,
    )


def _sequence_notes(plate: ImagePlate, stored: Stored, frames: sequence.ImageSequence, step: int) -> Iterator[str]:
    if step > 1:
        yield (
            f"'{frames.pattern}' counts in steps of {step}: each picture is held until the next, and images "
            "are written for the same numbers."
        )
    coloured = [each for each in stored.layers if not each.grey]
    if len(coloured) > 1 or stored.layer.name:
        named = stored.layer.name or "RGB"
        others = listed([each for each in stored.layers if each is not stored.layer])
        advice = f"; --layer takes another of its layers ({others})" if others else ""
        yield f"The layer '{named}' of '{frames.pattern}' is edited{advice}."
    parts = stored.spec.get_int_attribute("oiio:subimages", 1)
    if parts > 1:
        which = "the first" if stored.layer.part == 0 else f"part {stored.layer.part + 1}"
        yield f"'{frames.pattern}' has {parts} parts in a file; {which} is edited and written, the others are not."
    if stored.window != (0, 0, plate.width, plate.height):
        x, y, width, height = stored.window
        yield (
            f"'{frames.pattern}' has a data window of {width}x{height} at ({x}, {y}) of its display window of "
            f"{plate.width}x{plate.height}; what that shows is edited, and all pixels are written."
        )
    if plate.grey:
        yield f"'{frames.pattern}' is grey; only the lightness of what is painted is kept."


def sequence_rate(spec: oiio.ImageSpec) -> Fraction | None:
    """Frames per second that an image's header states."""
    stated = spec.getattribute("FramesPerSecond")
    if isinstance(stated, (tuple, list)) and len(stated) == 2 and stated[1]:
        return Fraction(int(stated[0]), int(stated[1]))
    value = spec.get_float_attribute("dpx:FrameRate", 0.0)
    return Fraction(value).limit_denominator(1001) if 0 < value < 1000 else None


def _probe_video(path: str, first: int | None, last: int | None, colorspace: str, stream: int | None) -> SourceInfo:
    files = SourceFiles(path, Path(path))
    described = describe(path, stream)
    fingerprint = _video_fingerprint(files, path, colorspace, described.number)
    index = index_video(path, described.number)
    if index.truncated and (last is None or last >= index.count or (first or 0) >= index.count):
        raise _truncated(path, index)
    start, end = _range(path, first, last, (0, index.count - 1))
    _check_count(path, start, end)
    with contextlib.closing(video.VideoReader(path, colorspace, described.number)) as reader:
        plate = list(reader.read_to(start))[-1]
        if other := video.size_change(reader, plate, end):
            raise _another_size(path, other, plate.width, plate.height, start)
    return SourceInfo(
        path=path,
        kind="video",
        first=start,
        last=end,
        width=plate.width,
        height=plate.height,
        sample=_sample(plate),
        channels=len(plate.picture.format.components),
        rate=index.rate,
        variable_rate=index.variable,
        format=f"{described.codec} {plate.picture.pix_fmt}",
        colorspace=colorspace,
        scene_linear=colour.is_scene_linear(colorspace),
        pixel_aspect=plate.pixel_aspect,
        timecode=timecode.add(described.tags.get("timecode", ""), start, index.rate),
        has_audio=described.has_audio,
        notes=tuple(_video_notes(path, plate, index, described)),
        fingerprint=fingerprint,
        stream=described.number,
    )


def _another_size(path: str, plate: Plate, width: int, height: int, first: int) -> PaintoverError:
    part = f"use --range {first}-{plate.number - 1}, or " if plate.number > first + 1 else ""
    return PaintoverError(
        Code.INVALID_ARGUMENT,
        f"'{path}' changes its size at frame {plate.number}, from {width}x{height} to {plate.width}x{plate.height}; "
        f"{part}convert it to one size.",
    )


def _sample(plate: VideoPlate) -> str:
    bits = plate.picture.bits
    if plate.picture.is_float:
        return "half" if bits == 16 else "float"
    return "uint8" if bits <= 8 else "uint10" if bits <= 10 else "uint12" if bits <= 12 else "uint16"


def _truncated(path: str, index: VideoIndex) -> PaintoverError:
    expected = f" of {index.expected}" if index.expected else ""
    if index.count < 2:
        return PaintoverError(Code.DATA_LOSS, f"'{path}' is cut off: {index.count}{expected} frames can be read.")
    return PaintoverError(
        Code.DATA_LOSS,
        f"'{path}' is cut off: its first {index.count}{expected} frames can be read; "
        f"use --range 0-{index.count - 1} for those.",
    )


def _video_notes(path: str, plate: VideoPlate, index: VideoIndex, described: Description) -> Iterator[str]:
    name = os.path.basename(path)
    if described.others:
        others = " and ".join(described.others)
        yield f"Of '{name}', video stream {described.label} is edited; {others} is left out: --stream takes another."
    if index.variable:
        yield f"'{name}' has a variable frame rate; a video that is written keeps every frame's time."
    if not index.timed:
        yield f"'{name}' states no times for its frames; they are counted, and reading backward is slow."
    if described.fields:
        yield f"'{name}' is interlaced; its frames are edited as they are, both fields woven: motion is one a frame."
    if described.pix_fmt.startswith("xyz"):
        yield f"'{name}' holds X'Y'Z' samples, as digital cinema does; they are converted to RGB, and so is the result."
    if plate.orientation != Orientation():
        size = f"{plate.width}x{plate.height}"
        yield f"'{name}' is stored turned or mirrored; frames are upright as players show them ({size})."
    if index.truncated:
        yield f"'{name}' is cut off; its first {index.count} frames are read."
    if len({c.plane for c in plate.picture.format.components if not c.is_alpha}) == 1:
        yield f"'{name}' is grey; only the lightness of what is painted is kept."
