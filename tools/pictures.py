"""Makes the README's pictures from what `paintover demo` wrote.

python tools/pictures.py paintover-demo     writes docs/pictures/demo.png, demo.webp and tutorial-*.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from paintover_evaluation.demo import pick, read_video
from paintover_evaluation.scenes import DEMO
from paintover_evaluation.sheets import contact_sheet, side_by_side
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
SHEET = (6, 14, DEMO.keyframe, 71)
WIDTH, EVERY = 400, 2  # of each side of the moving picture in pixels; every n-th frame is shown


def moving_picture(folder: Path, path: Path) -> None:
    """The shot beside its result, as a WebP that plays by itself."""
    frames = []
    pairs = zip(read_video(folder / "shot.mp4"), read_video(folder / "edited.mp4"), strict=True)
    for number, (before, after) in enumerate(pairs):
        if number % EVERY == 0:
            both = Image.fromarray(side_by_side(before, after))
            frames.append(
                both.resize((2 * WIDTH, round(2 * WIDTH * both.height / both.width)), Image.Resampling.LANCZOS)
            )
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=1000 * EVERY // 24, loop=0, quality=60, method=6
    )


def tutorial_pictures(folder: Path) -> None:
    """The keyframe as it was, and painted."""
    plate = pick(folder / "shot.mp4", (DEMO.keyframe,))[DEMO.keyframe]
    painted = np.asarray(Image.open(folder / "keyframe.png").convert("RGB"))
    for name, picture in (("frame", plate), ("painted", painted)):
        Image.fromarray(picture).save(PICTURES / f"tutorial-{name}.jpg", quality=85)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Makes the README's pictures from what `paintover demo` wrote.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    PICTURES.mkdir(exist_ok=True)
    rows = [(label, pick(folder / name, SHEET)) for label, name in (("plate", "shot.mp4"), ("result", "edited.mp4"))]
    sheet = Image.fromarray(contact_sheet(rows, SHEET, marked=(DEMO.keyframe,), width=1600))
    sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(PICTURES / "demo.png", optimize=True)
    moving_picture(folder, PICTURES / "demo.webp")
    tutorial_pictures(folder)


if __name__ == "__main__":
    main()
