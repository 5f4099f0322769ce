"""Carrying a range of a source's sound to a video that is written."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from paintover_engine.media.container import open_container

# What players expect in these containers; Matroska takes whatever its muxer says.
_COPIED = {
    ".mov": {"aac", "mp3", "ac3", "eac3"},
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus"},
}
_USUAL_LAYOUTS = {"1 channels": "mono", "2 channels": "stereo", "6 channels": "5.1", "8 channels": "7.1"}
# Lossless codecs are encoded anew with themselves: nothing is lost, and the cut is exact to the sample.
_LOSSLESS = {".mov": {"alac"}, ".mp4": {"alac", "flac"}, ".mkv": {"alac", "flac"}}
_FALLBACK = {".mov": "pcm_s24le", ".mp4": "aac", ".mkv": "flac"}


class AudioTracks:
    """All sound tracks of a source between two times, copied where the container takes their codec, else encoded.

    span: first and last second in the source's own timeline; the output's clock starts at the first.
    notes: a sentence for each track that had to be encoded, or that cannot be read.
    """

    def __init__(self, path: str, output: OutputContainer, span: tuple[Fraction, Fraction], suffix: str) -> None:
        self.notes: list[str] = []
        self._start, self._end = span
        self._output = output
        self._suffix = suffix
        self._source = open_container(path)
        self._tracks: dict[int, _Track] = {}
        for stream in self._source.streams.audio:
            track = self._track(stream)
            if track is not None:
                self._tracks[stream.index] = track
        self._packets = self._demux()
        self._next: tuple[Fraction, list[Packet[AudioStream]]] | None = None

    def _track(self, stream: AudioStream) -> _Track | None:
        if stream.codec_context is None:
            self.notes.append("A sound track of a kind that is not read is left out.")
            return None
        name = stream.codec_context.codec.canonical_name
        if name in _LOSSLESS[self._suffix] or (name.startswith("pcm_") and self._suffix != ".mp4"):
            return _Encoded(stream, self._output, self._start, self._end, name)
        if name in _COPIED.get(self._suffix, self._output.supported_codecs):
            return _Copied(stream, self._output, self._start, early=self._suffix != ".mkv")
        fallback = _FALLBACK[self._suffix]
        self.notes.append(f"The sound is encoded anew, as {fallback}: {self._suffix} does not take {name}.")
        return _Encoded(stream, self._output, self._start, self._end, fallback)

    def write_until(self, time: Fraction | None) -> None:
        """Writes the sound up to `time` seconds of the output; all that is left where it is None."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None:
                break
            when, packets = self._next
            if time is not None and when > time:
                return
            self._output.mux(packets)
            self._next = None
        if time is None:
            for track in self._tracks.values():
                self._output.mux(track.flush())

    def _demux(self) -> Iterator[tuple[Fraction, list[Packet[AudioStream]]]]:
        """Packets of the range with the time, in the output, at which each begins."""
        streams = [stream for stream in self._source.streams.audio if stream.index in self._tracks]
        if not streams:
            return
        if self._start > 1:
            self._source.seek(int((self._start - 1) * av.time_base))
        past: set[int] = set()
        for packet in self._source.demux(*streams):
            if packet.pts is None or not packet.size or packet.stream_index in past:
                continue
            begin = packet.pts * packet.time_base
            if begin >= self._end:
                past.add(packet.stream_index)
                if len(past) == len(streams):
                    return
                continue
            yield begin - self._start, self._tracks[packet.stream_index].take(packet)  # type: ignore[arg-type]

    def close(self) -> None:
        """Lets go of the source."""
        self._packets.close()  # type: ignore[attr-defined]
        self._source.close()


class _Track:
    """One sound track on its way to the output."""

    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        """Packets for the output that follow from one of the source's."""
        raise NotImplementedError

    def flush(self) -> list[Packet[AudioStream]]:
        """Packets that were held back."""
        return []


class _Copied(_Track):
    """early: the container can begin before 0 (an edit list hides that), so that the packet across the start is kept,
    and the one before it, which lossy decoders overlap with it."""

    def __init__(self, stream: AudioStream, output: OutputContainer, start: Fraction, early: bool) -> None:
        self._stream = output.add_stream_from_template(stream)
        self._offset = round(start / stream.time_base)  # type: ignore[operator]
        self._early = early

    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        pts = (packet.pts or 0) - self._offset
        if pts < 0 and not (self._early and pts + 2 * (packet.duration or 0) > 0):
            return []
        packet.pts = pts
        packet.dts = pts if packet.dts is None else packet.dts - self._offset
        packet.stream = self._stream
        return [packet]


class _Encoded(_Track):
    """Decoded, cut to the sample, and encoded with a codec that the container takes."""

    def __init__(
        self, stream: AudioStream, output: OutputContainer, start: Fraction, end: Fraction, codec: str
    ) -> None:
        self._source = stream
        self._rate = stream.rate
        self._stream = output.add_stream(codec, rate=self._rate)
        assert isinstance(self._stream, AudioStream)
        layout = _layout(stream.layout)
        self._stream.codec_context.layout = layout
        formats = [f.name for f in self._stream.codec.audio_formats or ()]
        sample = stream.format.name if stream.format.name in formats or not formats else formats[0]
        self._stream.codec_context.format = sample
        self._resampler = AudioResampler(format=sample, layout=layout, rate=self._rate)
        self._start, self._end = round(start * self._rate), round(end * self._rate)
        self._position: int | None = None  # of the next sample in the source's timeline

    def take(self, packet: Packet[AudioStream]) -> list[Packet[AudioStream]]:
        encoded: list[Packet[AudioStream]] = []
        try:
            frames = self._source.decode(packet)
        except av.error.FFmpegError:
            return []  # a damaged packet is a moment of silence
        for frame in frames:
            for part in self._resampler.resample(frame):
                encoded += self._encode(part)
        return encoded

    def _encode(self, frame: av.AudioFrame) -> list[Packet[AudioStream]]:
        if frame.pts is not None and frame.time_base is not None:
            self._position = round(frame.pts * frame.time_base * self._rate)
        begin = self._position if self._position is not None else self._start
        self._position = begin + frame.samples
        cut = _cut(frame, max(0, self._start - begin), min(frame.samples, self._end - begin))
        if cut is None:
            return []
        cut.pts, cut.time_base = max(begin, self._start) - self._start, Fraction(1, self._rate)
        return self._stream.encode(cut)  # type: ignore[union-attr, arg-type]

    def flush(self) -> list[Packet[AudioStream]]:
        return self._stream.encode(None)  # type: ignore[union-attr]


def _layout(layout: av.AudioLayout) -> str:
    """A layout's name; the usual one for files that state only how many channels they have."""
    return _USUAL_LAYOUTS.get(layout.name, layout.name)


def _cut(frame: av.AudioFrame, first: int, last: int) -> av.AudioFrame | None:
    """Samples `first` to `last` of a frame; None where there are none."""
    if first >= last:
        return None
    if (first, last) == (0, frame.samples):
        return frame
    samples = frame.to_ndarray()
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    clip = samples[:, first * width : last * width].copy()
    cut = av.AudioFrame.from_ndarray(clip, frame.format.name, frame.layout.name)
    cut.sample_rate = frame.sample_rate
    return cut
