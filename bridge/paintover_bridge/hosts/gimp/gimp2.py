"""GIMP 2.10's plug-in: one procedure, `plug-in-paintover-run`, which runs a `paintover paint` command to its end.

libgimp is called by way of ctypes, in Paintover's own Python: GIMP 2.10's Python was version 2, which systems have no
more. The structures are those of libgimp/gimp.h and libgimp/gimptypes.h.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Sequence
from typing import Any

from paintover_bridge.hosts.command import HostError, find_command
from paintover_bridge.hosts.painting import chosen_shot, run_paint

PROCEDURE = b"plug-in-paintover-run"
_INT32, _STRING, _STATUS = 0, 4, 21  # GimpPDBArgType
_CALLING_ERROR, _SUCCESS = 1, 3  # GimpPDBStatusType
_PLUGIN = 1  # GimpPDBProcType
_PARAMETERS = (
    (_INT32, b"run-mode", b"The run mode"),
    (_STRING, b"shot", b"A video, or a frame of an image sequence"),
    (_INT32, b"frame", b"The frame to paint on; of a sequence's file, the file's own"),
    (_STRING, b"once", b"'' writes the file to paint on; 'once' carries what is saved in it through the shot"),
)
_RESULTS = ((_STRING, b"path", b"The file to paint on, or the file that shows the draft"),)


class _Data(ctypes.Union):
    _fields_ = (
        ("d_int32", ctypes.c_int32),
        ("d_string", ctypes.c_char_p),
        ("d_status", ctypes.c_int),
        ("largest", ctypes.c_double * 4),  # a GimpRGB
    )


class _Param(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("data", _Data))


class _ParamDef(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("name", ctypes.c_char_p), ("description", ctypes.c_char_p))


_Query = ctypes.CFUNCTYPE(None)
_RunProcedure = ctypes.CFUNCTYPE(
    None,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.POINTER(_Param),
    ctypes.POINTER(ctypes.c_int),
    ctypes.POINTER(ctypes.POINTER(_Param)),
)


class _PlugInInfo(ctypes.Structure):
    _fields_ = (("init", _Query), ("quit", _Query), ("query", _Query), ("run", _RunProcedure))


class PlugIn:
    """Answers GIMP."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._values = (_Param * 2)()
        self._text = b""
        self._info = _PlugInInfo(_Query(), _Query(), _Query(self._query), _RunProcedure(self._run))

    def main(self, arguments: Sequence[str]) -> int:
        """Serves the call that GIMP started this program for. arguments: the program and its arguments."""
        words = (ctypes.c_char_p * (len(arguments) + 1))(*(word.encode() for word in arguments), None)
        status: int = self._library.gimp_main(ctypes.byref(self._info), len(arguments), words)
        return status

    def _query(self) -> None:
        self._library.gimp_install_procedure(
            PROCEDURE,
            b"Runs Paintover on one frame of a shot",
            b"",
            b"Paintover",
            b"Apache-2.0",
            b"2026",
            None,
            b"",
            _PLUGIN,
            len(_PARAMETERS),
            len(_RESULTS),
            (_ParamDef * len(_PARAMETERS))(*(_ParamDef(*each) for each in _PARAMETERS)),
            (_ParamDef * len(_RESULTS))(*(_ParamDef(*each) for each in _RESULTS)),
        )

    def _run(self, name: bytes, count: int, parameters: Any, number: Any, values: Any) -> None:
        shot, frame, once = parameters[1].data.d_string, parameters[2].data.d_int32, parameters[3].data.d_string
        try:
            text = self.paint(shot.decode(), frame, bool(once))
            status = _SUCCESS
        except HostError as error:  # the text of a failed call is what GIMP shows
            text, status = str(error), _CALLING_ERROR
        self._text = text.encode()
        self._values[0].type, self._values[0].data.d_status = _STATUS, status
        self._values[1].type, self._values[1].data.d_string = _STRING, self._text
        number[0] = 2
        values[0] = ctypes.cast(self._values, ctypes.POINTER(_Param))

    def paint(self, shot: str, frame: int, once: bool) -> str:
        """Runs the command; returns the path that it ends with. Raises HostError with what it says is wrong."""
        source, number = chosen_shot(shot)
        self._library.gimp_progress_init(b"The shot follows" if once else b"Opening the frame")
        try:
            return run_paint(find_command(), source, frame if number is None else number, once, self._show_progress)
        finally:
            self._library.gimp_progress_end()

    def _show_progress(self, share: float) -> None:
        self._library.gimp_progress_update(ctypes.c_double(share))


def main() -> int:
    """The program that GIMP starts."""
    name = "libgimp-2.0.so.0" if sys.platform.startswith("linux") else ctypes.util.find_library("gimp-2.0")
    return PlugIn(ctypes.CDLL(name)).main(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
