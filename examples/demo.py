"""The whole of Paintover on a small shot: paint one frame, propagate it, look at what came out.

    python examples/demo.py -o demo

It renders a shot and its painted keyframe, then runs the same command that you would run on your own footage.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray
from paintover_evaluation.scenes import DEMO
from paintover_evaluation.sheets import contact_sheet, side_by_side
from PIL import Image

WIDTH, HEIGHT, RATE = 854, 480, 24
SHOWN = (0, 6, 14, 22, DEMO.keyframe, 71)  # before, while and after the tower hides the star
FEWER = (6, 14, DEMO.keyframe, 71)  # of those

TO_YUV = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
TO_RGB = Interpolation.BICUBIC  # as the ffmpeg command exports a frame

Frame = NDArray[np.uint8]


def main() -> int:
    """Makes the demo's files and says where they are; returns the propagate command's exit status."""
    parser = argparse.ArgumentParser(description="Render a demo shot, propagate its painted keyframe, show the result.")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to write to (default: demo)")
    parser.add_argument("--picture", type=Path, help="also write the README's picture to this PNG file")
    arguments = parser.parse_args()
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    shot, keyframe, edited = folder / "shot.mp4", folder / "keyframe.png", folder / "edited.mp4"

    started = time.monotonic()
    print(f"Rendering a shot of {DEMO.length} frames, {WIDTH}x{HEIGHT} ...", flush=True)
    write_video(shot, (DEMO.render(number, WIDTH, HEIGHT).plate for number in range(DEMO.length)))
    paint_keyframe(shot, keyframe)
    print(f"Painted frame {DEMO.keyframe}: {keyframe}  ({time.monotonic() - started:.0f} s)\n")

    status = propagate(shot, keyframe, edited)
    if status != 0:
        return status

    sheet, comparison = folder / "contact_sheet.png", folder / "before_after.mp4"
    compare(shot, edited, comparison)
    rows = [("plate", pick(shot, SHOWN)), ("result", pick(edited, SHOWN))]
    Image.fromarray(contact_sheet(rows, SHOWN, marked=(DEMO.keyframe,))).save(sheet)
    if arguments.picture:
        save_readme_picture(rows, arguments.picture)
    say_what_is_where(shot, keyframe, edited, comparison, sheet, time.monotonic() - started)
    return 0


def paintover_command() -> str | None:
    """The command that is installed with this Python, if any."""
    return shutil.which("paintover", path=str(Path(sys.executable).parent))


def propagate(shot: Path, keyframe: Path, edited: Path) -> int:
    """Runs `paintover propagate` as a user would, its progress in this terminal; returns its exit status."""
    command = paintover_command()
    if command is None:
        print("The paintover command is not beside this Python; run `make setup` first.", file=sys.stderr)
        return 1
    words = ["propagate", f"{shot}", "--keyframe", f"{DEMO.keyframe}={keyframe}", "-o", f"{edited}", "--overwrite"]
    print("$ paintover " + " ".join(words), flush=True)
    status = subprocess.run([command, *words], check=False).returncode
    print(flush=True)
    return status


def paint_keyframe(shot: Path, path: Path) -> None:
    """Saves the shot's keyframe as an artist would: exported from the video itself, then painted on."""
    exported = pick(shot, (DEMO.keyframe,))[DEMO.keyframe]
    scene = DEMO.render(DEMO.keyframe, WIDTH, HEIGHT)
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
            yield frame.to_ndarray(format="rgb24", interpolation=TO_RGB)


def pick(path: Path, numbers: tuple[int, ...]) -> dict[int, Frame]:
    """Some frames of a video by number."""
    return {number: frame for number, frame in enumerate(read_video(path)) if number in numbers}


def compare(shot: Path, edited: Path, path: Path) -> None:
    """Writes both videos side by side."""
    pairs = zip(read_video(shot), read_video(edited), strict=True)
    write_video(path, (side_by_side(before, after) for before, after in pairs))


def save_readme_picture(rows: list[tuple[str, dict[int, Frame]]], path: Path) -> None:
    """A small sheet with a palette: a picture that a page loads quickly."""
    sheet = contact_sheet(rows, FEWER, marked=(DEMO.keyframe,), width=1600)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def say_what_is_where(shot: Path, keyframe: Path, edited: Path, comparison: Path, sheet: Path, seconds: float) -> None:
    """Tells the user what was made and what to try next."""
    print(f"Done in {seconds:.0f} s.")
    print(f"  {sheet}   the shot before and after, a few frames of it: look here first")
    print(f"  {comparison}    plays both side by side")
    print(f"  {edited}          the edited shot")
    print(f"  {shot}, {keyframe}   what it was made from")
    print("\nNext:")
    print("  Your own footage: export a frame, paint on it in any program, then")
    print(f"    {paintover_command()} propagate SHOT --keyframe FRAME=PAINTED.png -o EDITED.mov")
    print(f"  What can be tuned: {paintover_command()} methods")
    print("  How it works: docs/architecture.md")


if __name__ == "__main__":
    sys.exit(main())
