"""The suites of what the artist sees beside the picture: progress, messages, the time line, overlays."""

from __future__ import annotations

from ctypes import c_double, c_float, c_int, c_void_p

from tests.plugin_ofx.ofx_host.quirks import ERR_UNKNOWN, OK, REPLY_DEFAULT
from tests.plugin_ofx.ofx_host.suite import Entry, Suite, handle, out, text


class ProgressSuite(Suite):
    """A progress bar."""

    NAME = ("OfxProgressSuite", 1)

    def entries(self) -> list[Entry]:
        return [
            ("progressStart", [handle, text], lambda _effect, _label: self._progress(0.0)),
            ("progressUpdate", [handle, c_double], lambda _effect, done: self._progress(done)),
            ("progressEnd", [handle], lambda _effect: OK),
        ]

    def _progress(self, done: float) -> int:
        self.host.progress.append(done)
        return REPLY_DEFAULT if self.host.cancel_at is not None and done >= self.host.cancel_at else OK


class MessageSuite(Suite):
    """Messages at an effect."""

    NAME = ("OfxMessageSuite", 2)

    def entries(self) -> list[Entry]:
        return [
            ("message", [handle, text, text, text, text], lambda *_: OK),
            ("setPersistentMessage", [handle, text, text, text, text], self._set_message),
            ("clearPersistentMessage", [handle], self._clear_message),
        ]

    def _set_message(self, handle: int, kind: bytes, _id: bytes, form: bytes, sentence: bytes) -> int:
        assert kind in (b"OfxMessageError", b"OfxMessageWarning", b"OfxMessageMessage")
        assert form == b"%s"
        self.host.persistent[handle] = sentence.decode()
        return OK

    def _clear_message(self, handle: int) -> int:
        self.host.persistent.pop(handle, None)
        return OK


class TimeLineSuite(Suite):
    """The time line."""

    NAME = ("OfxTimeLineSuite", 1)

    def entries(self) -> list[Entry]:
        return [
            ("getTime", [handle, out], lambda _effect, _out: ERR_UNKNOWN),
            ("gotoTime", [handle, c_double], self._go_to),
            ("getTimeBounds", [handle, out, out], lambda *_: ERR_UNKNOWN),
        ]

    def _go_to(self, _handle: int, time: float) -> int:
        self.host.goes_to.append(time)
        return OK


class InteractSuite(Suite):
    """Overlays in the viewer."""

    NAME = ("OfxInteractSuite", 1)

    def entries(self) -> list[Entry]:
        return [
            ("interactSwapBuffers", [handle], None),
            ("interactRedraw", [handle], self._redraw),
            ("interactGetPropertySet", [handle, out], None),
        ]

    def _redraw(self, _interact: int) -> int:
        self.host.redraws += 1
        return OK


class DrawSuite(Suite):
    """OpenFX 1.5's drawing."""

    NAME = ("OfxDrawSuite", 1)

    def entries(self) -> list[Entry]:
        return [
            ("getColour", [handle, c_int, out], lambda *_: OK),
            ("setColour", [handle, c_void_p], lambda *_: OK),
            ("setLineWidth", [handle, c_float], lambda *_: OK),
            ("setLineStipple", [handle, c_int], lambda *_: OK),
            ("draw", [handle, c_int, c_void_p, c_int], self._draw),
            ("drawText", [handle], None),
        ]

    def _draw(self, context: int, primitive: int, points: int, count: int) -> int:
        assert self.host.objects[context] == "draw context"
        assert (primitive, count) == (0, 2)  # a line
        values = (c_double * 4).from_address(points)
        self.host.lines.append(((values[0], values[1]), (values[2], values[3])))
        return OK
