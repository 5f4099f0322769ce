"""Writing a result as a video, with the source's tags, times and sound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from paintover_engine.errors import PaintoverError
from paintover_engine.media.audio import AudioTracks
from paintover_engine.media.container import describe, open_container
from paintover_engine.media.fields import FieldFlags
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.plate import ImagePlate, Plate, VideoPlate, encoded
from paintover_engine.media.sink import Sink, failed
from paintover_engine.media.stream_template import stream_template
from paintover_engine.media.video_index import index_video
from paintover_engine.media.video_picture import UNSPECIFIED, ColourTags, convert_frame, frame_of, range_of

_FORMATS = {".mov": "mov", ".mp4": "mp4", ".mkv": "matroska"}
VIDEO_SUFFIXES = tuple(_FORMATS)
_CODECS = {".mov": "prores_ks", ".mp4": "libx264", ".mkv": "ffv1"}
_OPTIONS = {
    ".mov": {"profile": "4444", "vendor": "apl0"},
    ".mp4": {"crf": "10", "preset": "superfast"},  # the quality of crf 12 at "veryfast", faster, larger
    ".mkv": {"level": "3", "coder": "1", "context": "0", "slicecrc": "1", "g": "1"},
}
_BT709 = 1  # AVColorPrimaries, AVColorTransferCharacteristic and AVColorSpace
# Fields of a stream's entry in the container that equal the encoder's; the tag names the ProRes profile.
_STREAM_FIELDS = (
    "pix_fmt", "framerate", "color_range", "colorspace", "color_primaries", "color_trc", "codec_tag",
)  # fmt: skip
_CONTAINER_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "timecode", "duration"}


class VideoSink(Sink):
    """Writes ProRes 4444 (.mov), H.264 (.mp4) or lossless FFV1 (.mkv).

    The container is opened at the first frame, whose pixel format, size and tags choose the encoder's."""

    def __init__(self, path: Path, info: SourceInfo, overwrite: bool, guard: Callable[[], None]) -> None:
        self._info = info
        self._suffix = path.suffix.lower()
        self._container: OutputContainer | None = None
        self._audio: AudioTracks | None = None
        self._index = index_video(info.path, info.stream) if info.kind == "video" else None
        self._described = describe(info.path, info.stream) if info.kind == "video" else None
        self._fields = FieldFlags(self._described.fields) if self._described and self._described.fields else None
        self._times = self._variable_times()
        self._durations: dict[int, int] = {}  # by presentation time, of frames that are in the encoder
        self._written = 0
        super().__init__(path, overwrite, guard)
        self._staged = self._staging / path.name
        self._rate = info.rate or Fraction(24)
        if info.rate is None:
            self.note("The source states no frame rate; the video plays at 24 frames per second.")

    def _variable_times(self) -> tuple[NDArray[np.int64], Fraction] | None:
        """Each frame's presentation time, (count,) int64, and its time base in seconds; None for a constant rate."""
        if not self._info.variable_rate or self._index is None or not self._index.timed:
            return None
        pts, time_base = self._index.pts, self._index.time_base
        if self._suffix != ".mkv":
            return pts, time_base
        # Matroska counts milliseconds: frames that are nearer together must not share one.
        order = np.arange(len(pts))
        rounded = np.rint(pts * float(time_base) * 1000).astype(np.int64)
        return np.maximum.accumulate(rounded - order) + order, Fraction(1, 1000)

    def write(self, plate: Plate) -> None:
        try:
            if self._container is None:
                self._open(plate)
            frame = self._frame_as(plate, self._target)
            frame.pts, frame.time_base, frame.duration = self._time(plate.number)
            self._mux(frame)
            if self._audio is not None:
                self._audio.write_until(self._elapsed(plate.number))
        except (OSError, av.error.FFmpegError) as error:
            raise failed(self.path, error) from error
        self._written += 1

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        if frame is not None and frame.pts is not None:
            self._durations[frame.pts] = frame.duration
        for packet in self._encoder.encode(frame):
            packet.stream = self._stream
            duration = self._durations.pop(packet.pts or 0, 1)
            packet.duration = packet.duration or duration  # PyAV 17 leaves it 0, and players would drop the last frame
            self._container.mux(packet)

    def _time(self, number: int) -> tuple[int, Fraction, int]:
        """Timestamp, time base and duration of a frame in the output."""
        if self._times is not None and self._index is not None:
            pts, time_base = self._times
            duration = self._index.duration(number) * self._index.time_base / time_base
            return int(pts[number] - pts[self._info.first]), time_base, max(1, round(duration))
        return number - self._info.first, 1 / self._rate, 1

    def _elapsed(self, number: int) -> Fraction:
        """Seconds from the start of the output to the end of a frame."""
        pts, time_base, duration = self._time(number)
        return (pts + duration) * time_base

    def _open(self, plate: Plate) -> None:
        options = {"movflags": "+faststart"} if self._suffix == ".mp4" else {}
        self._container = av.open(str(self._staged), "w", format=_FORMATS[self._suffix], options=options)
        self._target = self._pix_fmt(plate)
        self._encoder = self._open_encoder(self._frame_as(plate, self._target))
        self._stream = self._add_stream(plate)
        if self._info.kind == "video":
            self._copy_metadata()
        if self._info.timecode:
            self._stream.metadata["timecode"] = self._info.timecode
        if self._info.has_audio and self._index is not None:
            span = self._index.start_time(self._info.first), self._index.end_time(self._info.last)
            self._audio = AudioTracks(self._info.path, self._container, span, self._suffix)
            for sentence in self._audio.notes:
                self.note(sentence)

    def _open_encoder(self, frame: av.VideoFrame) -> VideoCodecContext:
        """An encoder for frames of the given one's size, pixel format and colour tags."""
        encoder = av.CodecContext.create(_CODECS[self._suffix], "w")
        assert isinstance(encoder, VideoCodecContext)
        encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
        encoder.framerate = self._rate
        encoder.time_base = self._times[1] if self._times else 1 / self._rate
        encoder.color_range, encoder.colorspace = frame.color_range, frame.colorspace
        encoder.color_primaries, encoder.color_trc = frame.color_primaries, frame.color_trc
        encoder.flags |= Flags.global_header
        encoder.options = dict(_OPTIONS[self._suffix])
        if self._suffix == ".mkv":
            encoder.thread_type = "SLICE"  # frame threads would each buffer frames: gigabytes at 8K
            if min(self._info.width, self._info.height) < 16:
                encoder.options["slices"] = "1"  # a slice needs pixels of every plane, which FFV1 does not ensure
        if self._fields is not None:
            encoder.flags |= Flags.interlaced_dct | Flags.interlaced_me
            if self._suffix == ".mp4" and self._described and self._described.fields == "bff":
                encoder.options["x264-params"] = "bff=1"
        encoder.open()
        return encoder

    def _add_stream(self, plate: Plate) -> VideoStream:
        """Adds the encoder's stream to the container, with HDR metadata, pixel aspect and display rotation."""
        assert self._container is not None
        encoder = self._encoder
        hdr = self._described.hdr if self._described else None
        fields = self._described.fields if self._described else ""
        codec = encoder.codec.canonical_name
        template = stream_template(codec, encoder.width, encoder.height, encoder.extradata or b"", hdr, fields)
        with template:
            stream = self._container.add_stream_from_template(template.streams.video[0], opaque=True)
        assert isinstance(stream, VideoStream)
        stream.time_base = encoder.time_base
        context = stream.codec_context
        for name in _STREAM_FIELDS:
            setattr(context, name, getattr(encoder, name))
        aspect = self._info.pixel_aspect
        if isinstance(plate, VideoPlate):
            turns, mirrored = plate.orientation.turns, plate.orientation.mirrored
            aspect = 1 / aspect if turns % 2 else aspect
            if turns or mirrored:
                stream.set_display_rotation(turns * 90, hflip=mirrored)
        context.sample_aspect_ratio = aspect
        if aspect != 1 and self._suffix == ".mkv":  # its muxer reads a field that PyAV does not expose
            self.note(
                f"The pixel aspect {aspect.numerator}:{aspect.denominator} is not written to .mkv; .mov keeps it."
            )
        return stream

    def _copy_metadata(self) -> None:
        assert self._container is not None
        with open_container(self._info.path) as source:
            tags = {name: value for name, value in source.metadata.items() if name.lower() not in _CONTAINER_TAGS}
            self._container.metadata.update(tags)

    def _frame_as(self, plate: Plate, pix_fmt: str) -> av.VideoFrame:
        """A plate as a frame of a pixel format, with its colour range, matrix and primaries set."""
        source = frame_of(plate.picture) if isinstance(plate, VideoPlate) else _image_frame(plate)
        if self._fields is not None:
            source = self._fields.set_on(source)
        own_range = range_of(ColourTags.of(source), source.format.name)
        if source.format.name == pix_fmt and (self._suffix != ".mov" or own_range == ColorRange.MPEG):
            return source
        if source.format.is_rgb == av.VideoFormat(pix_fmt).is_rgb:
            color_range = ColorRange.MPEG if self._suffix == ".mov" else own_range  # ProRes has no full range
            return convert_frame(source, pix_fmt, color_range=color_range)
        target = convert_frame(source, pix_fmt, int(Colorspace.ITU709), ColorRange.MPEG)
        target.colorspace = _BT709
        if target.color_primaries == UNSPECIFIED:
            target.color_primaries = target.color_trc = _BT709
        return target

    def _pix_fmt(self, plate: Plate) -> str:
        alpha = plate.alpha() is not None
        source = plate.picture.pix_fmt if isinstance(plate, VideoPlate) else ""
        choose = {".mov": self._prores_format, ".mp4": self._h264_format, ".mkv": self._ffv1_format}
        return choose[self._suffix](plate, source, alpha)

    def _prores_format(self, plate: Plate, source: str, alpha: bool) -> str:
        if self._info.bits > 10:
            self.note(f"ProRes 4444 is written with 10 bits; the source's {self._info.sample} samples are rounded.")
        self._note_float()
        return "yuva444p10le" if alpha else "yuv444p10le"

    def _h264_format(self, plate: Plate, source: str, alpha: bool) -> str:
        if alpha:
            self.note("H.264 holds no alpha; it is left out (.mov and .mkv hold it).")
        depth = "" if self._info.bits == 8 else "10le"
        if self._info.bits > 10:
            self.note(f"H.264 is written with 10 bits; the source's {self._info.sample} samples are rounded.")
        self._note_float()
        if source.startswith("gray"):
            return f"gray{depth}"
        chroma = next((c for c in ("444", "422", "420") if c in source), "420")
        if not source.startswith("yuv"):
            self.note("H.264 is written with 4:2:0 chroma; .mov and .mkv keep the source's.")
        stored = plate.picture if isinstance(plate, VideoPlate) else plate
        if (stored.width % 2 and chroma != "444") or (stored.height % 2 and chroma == "420"):
            self.note("H.264 subsamples even sizes only; this one is written with 4:4:4 chroma.")
            chroma = "444"
        full = "j" if source.startswith("yuvj") and not depth else ""
        return f"yuv{full}{chroma}p{depth}"

    def _ffv1_format(self, plate: Plate, source: str, alpha: bool) -> str:
        self._note_float()
        source = source.replace("yuvj", "yuv")
        known = {f.name for f in av.Codec("ffv1", "w").video_formats or ()}
        if source in known and "f16" not in source and "f32" not in source:
            return source
        if source == "gbrp" or (not source and self._info.bits == 8):
            return "bgra" if alpha else "gray" if _is_grey(plate) else "bgr0"
        if source == "gbrap":
            return "bgra"
        return "gbrap16le" if alpha else "gray16le" if _is_grey(plate) else "gbrp16le"

    def _note_float(self) -> None:
        if self._info.sample in ("half", "float"):
            self.note("The video holds no float samples: frames are sRGB-encoded and values above 1 are clipped.")

    def _finish(self) -> None:
        if self._container is None:
            return
        try:
            if self._audio is not None:
                self._audio.write_until(None)
            self._mux(None)
            self._container.close()
        except (OSError, av.error.FFmpegError) as error:
            raise failed(self.path, error) from error
        self._container = None

    def _close(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._audio = None
        if self._container is not None:
            container, self._container = self._container, None
            with contextlib.suppress(OSError, av.error.FFmpegError, ValueError):  # the file is discarded
                container.close()

    def _renames(self) -> list[tuple[Path, Path]]:
        if not self._written:
            raise PaintoverError(failed(self.path, "no frame came").code, f"No frame was written to '{self.path}'.")
        if not self._overwrite and self.path.exists():
            raise failed(self.path, "it appeared meanwhile; add --overwrite or choose another name")
        return [(self._staged, self.path)]


def _is_grey(plate: Plate) -> bool:
    return isinstance(plate, ImagePlate) and plate.grey


def _image_frame(plate: Plate) -> av.VideoFrame:
    """A plate of a sequence as a full-range RGB (or grey) frame of 8 or 16 bits."""
    native = plate.native_rgb()
    alpha = plate.alpha()
    if np.issubdtype(native.dtype, np.floating):
        native = encoded(plate)
    deep = native.dtype == np.uint16
    if alpha is not None:
        opacity = np.rint(np.clip(alpha, 0.0, 1.0) * np.iinfo(native.dtype).max).astype(native.dtype)
        pixels, pix_fmt = np.dstack([native, opacity]), "rgba64le" if deep else "rgba"
    elif _is_grey(plate):
        pixels, pix_fmt = native[..., 0], "gray16le" if deep else "gray"
    else:
        pixels, pix_fmt = native, "rgb48le" if deep else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=pix_fmt)
    frame.color_range = ColorRange.JPEG
    return frame
