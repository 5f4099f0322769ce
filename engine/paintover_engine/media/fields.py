"""Interlaced video: which field of a frame comes first in time, read off a frame and told to an encoder.

PyAV has neither; FFmpeg's filters do.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import av
from av.filter import Graph

Fields = Literal["", "tff", "bff"]  # progressive, top field first, bottom field first


def fields_of(frame: av.VideoFrame) -> Fields:
    """Which field of a decoded frame comes first; "" for a progressive one."""
    if not frame.interlaced_frame:
        return ""
    graph = _graph(frame, "select", r"eq(interlace_type\,TOPFIRST)")
    graph.vpush(frame)
    try:
        graph.vpull()
    except (av.error.BlockingIOError, av.error.EOFError):  # not selected
        return "bff"
    return "tff"


class FieldFlags:
    """Marks frames as interlaced. All must agree in size and format."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._marker: Graph | None = None

    def set_on(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame, marked."""
        if self._marker is None:
            self._marker = _graph(frame, "setparams", f"field_mode={self._fields}")
        self._marker.vpush(frame)
        marked = self._marker.vpull()
        assert isinstance(marked, av.VideoFrame)
        return marked


def _graph(like: av.VideoFrame, name: str, arguments: str) -> Graph:
    """One filter for frames like the given one."""
    graph = Graph()
    source = graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000))
    middle, sink = graph.add(name, arguments), graph.add("buffersink")
    source.link_to(middle)
    middle.link_to(sink)
    graph.configure()
    return graph
