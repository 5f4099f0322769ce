"""Has the engine write a farm's bundle."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence

from paintover_bridge.arguments import KeyframeFile
from paintover_bridge.daemon import farm_command
from paintover_bridge.errors import OK, ClientError, bad_input
from paintover_bridge.job_request import JobRequest
from paintover_bridge.output import CommandOutput


def write_bundle(
    request: JobRequest,
    keyframes: Sequence[KeyframeFile],
    folder: str,
    result: str | None,
    output: CommandOutput,
    redone: tuple[int, int] | None = None,
    earlier: str | None = None,
) -> int:
    """Writes the bundle of a request into a new folder and says what it holds; returns the exit status.

    keyframes: with the corrections of other frames.
    result: where the edited shot goes; None for a folder in the bundle. redone, earlier: the frames to make anew of an
    earlier bundle's, and its job file; None: all frames. Raises ClientError as the engine does."""
    if request.clip is not None:
        raise bad_input(
            "A bundle takes media, not a timeline's clip; give the clip's media, and --range for its frames."
        )
    described = {
        "source": os.path.abspath(request.source),
        "frames": request.frames,
        "colorspace": request.colorspace,
        "stream": request.stream,
        "layer": request.layer,
        "keyframes": [
            {"frame": key.frame, "picture": os.path.abspath(key.picture) if key.picture else "",
             "matte": os.path.abspath(key.matte) if key.matte else "", "kind": key.kind, "drag": key.drag}
            for key in keyframes
        ],
        "method": request.method,
        "parameters": dict(request.parameters),
        "model": request.model,
        "result": _absolute(result),
        "mattes": _absolute(request.mattes),
        "overwrite": request.overwrite,
        "folder": os.path.abspath(folder),
        "redone": redone,
        "earlier": os.path.abspath(earlier) if earlier else "",
    }  # fmt: skip
    ran = subprocess.run(
        farm_command("bundle"),
        input=json.dumps(described).encode(),
        capture_output=True,
        check=False,
    )
    if ran.returncode != 0:
        code, _, message = ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2].partition(" ")
        raise ClientError(code, message) if code.isupper() else ClientError("INTERNAL", f"{code} {message}")
    written = json.loads(ran.stdout)
    output.record(written)
    output.notes(written["notes"])
    output.say(f"Wrote {written['folder']}: {written['stages']} stages in {written['windows']} windows.")
    output.say(f"The edited shot goes to {written['result']}.")
    return OK


def _absolute(path: str | None) -> str:
    """An absolute path that keeps its trailing slash, by which it is a folder; "" for none."""
    if not path:
        return ""
    return os.path.abspath(path) + ("/" if path.endswith(("/", os.sep)) else "")
