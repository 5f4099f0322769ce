"""The demo, `paintover demo`: a small shot rendered, one frame of it painted, the paint carried through by the command
that a user would type, and pictures to look at.

    python -m paintover_evaluation.demo -o paintover-demo
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from PIL import Image

from paintover_evaluation.scenes import DEMO
from paintover_evaluation.sheets import contact_sheet, side_by_side

SIZE, SMALL_SIZE, RATE = (854, 480), (320, 180), 24
SHOWN = (0, 6, 14, 22, DEMO.keyframe, 71)  # before, while and after the tower hides the star

TO_YUV = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
TO_RGB = Interpolation.BICUBIC  # as the ffmpeg command exports a frame

Frame = NDArray[np.uint8]


def main() -> int:
    """Makes the demo's files and says where they are; returns the propagate command's exit status."""
    parser = argparse.ArgumentParser(description="Render a demo shot, propagate its painted keyframe, show the result.")
    parser.add_argument("-o", "--output", type=Path, default=Path("paintover-demo"), help="folder to write to")
    parser.add_argument("--small", action="store_true", help="at {}x{}, to see soon that all works".format(*SMALL_SIZE))
    arguments = parser.parse_args()
    folder: Path = arguments.output
    size = SMALL_SIZE if arguments.small else SIZE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"The folder {folder} cannot be made ({error.strerror}); name another with -o.", file=sys.stderr)
        return 2
    shot, keyframe, edited = folder / "shot.mp4", folder / "keyframe.png", folder / "edited.mp4"

    started = time.monotonic()
    print(f"Rendering a shot of {DEMO.length} frames, {size[0]}x{size[1]} ...", flush=True)
    write_video(shot, (DEMO.render(number, *size).plate for number in range(DEMO.length)))
    paint_keyframe(shot, keyframe, size)
    print(f"Painted frame {DEMO.keyframe}: {keyframe}  ({time.monotonic() - started:.0f} s)\n")

    status = propagate(shot, keyframe, edited)
    if status != 0:
        return status

    sheet, comparison = folder / "contact_sheet.png", folder / "before_after.mp4"
    compare(shot, edited, comparison)
    rows = [("plate", pick(shot, SHOWN)), ("result", pick(edited, SHOWN))]
    Image.fromarray(contact_sheet(rows, SHOWN, marked=(DEMO.keyframe,))).save(sheet)
    say_what_is_where(shot, keyframe, edited, comparison, sheet, time.monotonic() - started)
    return 0


def paintover_command() -> str:
    """What to type for the command: its name where the shell finds this Python's, else its whole path."""
    beside = shutil.which("paintover", path=str(Path(sys.executable).parent)) or "paintover"
    found = shutil.which("paintover")
    return "paintover" if found and Path(found).resolve() == Path(beside).resolve() else beside


def propagate(shot: Path, keyframe: Path, edited: Path) -> int:
    """Runs `paintover propagate` as a user would, its progress in this terminal; returns its exit status.

    Its engine works in a data folder of its own, which is removed, unless PAINTOVER_DATA names one."""
    command = [sys.executable, "-m", "paintover_bridge"]
    words = ["propagate", f"{shot}", "--keyframe", f"{DEMO.keyframe}={keyframe}", "-o", f"{edited}", "--overwrite"]
    print("$ paintover " + " ".join(words), flush=True)
    if os.environ.get("PAINTOVER_DATA"):
        return subprocess.run([*command, *words], check=False).returncode
    with tempfile.TemporaryDirectory(prefix="paintover-demo-", ignore_cleanup_errors=True) as data:
        environment = {**os.environ, "PAINTOVER_DATA": data}
        try:
            return subprocess.run([*command, *words], env=environment, check=False).returncode
        finally:
            stop = [*command, "stop", "--now", "--json"]
            subprocess.run(stop, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def paint_keyframe(shot: Path, path: Path, size: tuple[int, int]) -> None:
    """Saves the shot's keyframe as an artist would: exported from the video itself, then painted on.

    size: the shot's width and height."""
    exported = pick(shot, (DEMO.keyframe,))[DEMO.keyframe]
    scene = DEMO.render(DEMO.keyframe, *size)
    painted = exported + (scene.truth.astype(np.int16) - scene.plate)
    Image.fromarray(np.clip(painted, 0, 255).astype(np.uint8)).save(path)


def write_video(path: Path, frames: Iterator[Frame]) -> None:
    """Writes RGB frames of one even size as high-quality H.264, tagged Rec.709."""
    first = next(frames)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "14", "preset": "veryfast"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # Rec.709
        context.color_range = 1  # 16 to 235
        for picture in itertools.chain([first], frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", interpolation=TO_YUV)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_video(path: Path) -> Iterator[Frame]:
    """The frames of a video as RGB, from number 0 on."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24", interpolation=TO_RGB).astype(np.uint8, copy=False)


def pick(path: Path, numbers: tuple[int, ...]) -> dict[int, Frame]:
    """Some frames of a video by number."""
    return {number: frame for number, frame in enumerate(read_video(path)) if number in numbers}


def compare(shot: Path, edited: Path, path: Path) -> None:
    """Writes both videos side by side."""
    pairs = zip(read_video(shot), read_video(edited), strict=True)
    write_video(path, (side_by_side(before, after) for before, after in pairs))


def say_what_is_where(shot: Path, keyframe: Path, edited: Path, comparison: Path, sheet: Path, seconds: float) -> None:
    """Tells the user what was made and what to try next."""
    size = sum(path.stat().st_size for path in (shot, keyframe, edited, comparison, sheet)) / 1e6
    command = paintover_command()
    print(f"Done in {seconds:.0f} s; {size:.0f} MB in {sheet.parent}.")
    print(f"  {sheet}   the shot before and after, a few frames of it: look here first")
    print(f"  {comparison}    plays both side by side")
    print(f"  {edited}          the edited shot")
    print(f"  {shot}, {keyframe}   what it was made from")
    print("\nNext, your own footage:")
    print(f"  {command} paint SHOT.mov --frame 12 -o EDITED.mov    opens a frame in your painter, follows each save")
    print(f"  {command} propagate SHOT.mov -k 12=PAINTED.png -o EDITED.mov    takes a frame that is painted already")
    print(f"  {command} monitor    shows the queue and the frames in a browser")


if __name__ == "__main__":
    sys.exit(main())
