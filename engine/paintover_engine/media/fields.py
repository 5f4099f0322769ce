"""Interlaced video: telling an encoder which field of a frame comes first."""

from __future__ import annotations

from fractions import Fraction

import av
from av.filter import Graph

from paintover_engine.media.container import Description


class FieldFlags:
    """Marks frames as interlaced. PyAV has no setter for that: FFmpeg's `setparams` filter does it."""

    def __init__(self, described: Description) -> None:
        self._mode = "tff" if described.top_field_first else "bff"
        self._graph: Graph | None = None

    def set_on(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame, marked; all frames must agree in size and format."""
        if self._graph is None:
            self._graph = Graph()
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            marker = self._graph.add("setparams", f"field_mode={self._mode}")
            sink = self._graph.add("buffersink")
            source.link_to(marker)
            marker.link_to(sink)
            self._graph.configure()
        self._graph.vpush(frame)
        marked = self._graph.vpull()
        assert isinstance(marked, av.VideoFrame)
        return marked
