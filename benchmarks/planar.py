#!/usr/bin/env python3
"""A keyframe's paint carried by the draft, and by a planar tracker as compositors use one.

    benchmarks/planar.py FRAMES KEYFRAME=PAINTED.png [--outline X,Y,W,H] [--reach N] [--sheet FILE.png]

The planar tracker is the textbook's: corners of the plate (Shi, Tomasi 1994) tracked from frame to frame (Lucas,
Kanade) and confirmed by tracking back, a homography by RANSAC, the corners renewed in every frame; the paint is warped
by the homographies' product and put over the plate. It is given what an artist would draw, the --outline of a flat
surface; without one, the paint's bounds, grown by half of them on each side. FRAMES is a folder of pictures, of which
--reach are used on either side of the keyframe.

No truth is known of a painting. `whole`: how much what a method changed in a frame, brought back to the keyframe by
the tracked plane (and by up to `SLACK` pixels), looks like the paint there: their correlation, 1 where it is all
there; mean over the frames. `until`: the frames on either side of the keyframe up to which that is at least 0.7
without a break. `area`: how much is changed, as a ratio to the paint, moved by the plane. `cpu`: the processor's
milliseconds a frame.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from draft import BenchmarkCase, Frame, read, run_draft, write
from numpy.typing import NDArray
from paintover_evaluation.sheets import contact_sheet

SLACK = 6
WHOLE = 0.7
Homography = NDArray[np.float64]


def tracked(plates: Mapping[int, Frame], key: int, outline: tuple[int, int, int, int]) -> dict[int, Homography]:
    """The homography from the keyframe to each frame, as far as one is found. outline: x, y, width, height."""
    x, y, width, height = outline
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)
    found = {key: np.eye(3)}
    for step in (1, -1):
        number = key + step
        while number in plates:
            last = found[number - step]
            moved = between(
                grey(plates[number - step]), grey(plates[number]), cv2.perspectiveTransform(corners[None], last)
            )
            if moved is None:
                break
            found[number] = moved @ last
            number += step
    return found


def between(first: Frame, second: Frame, outline: NDArray[np.float32]) -> Homography | None:
    """The homography that most corners inside an outline (1, 4, 2) agree on; None for fewer than 8."""
    inside = cv2.fillConvexPoly(np.zeros_like(first), outline[0].astype(np.int32), 255)
    points = cv2.goodFeaturesToTrack(first, 300, 0.01, 4, mask=inside)
    if points is None or len(points) < 8:
        return None
    there, good, _ = cv2.calcOpticalFlowPyrLK(first, second, points, None, winSize=(21, 21))
    back, returned, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None, winSize=(21, 21))
    kept = (good.ravel() > 0) & (returned.ravel() > 0) & (np.abs(back - points).max(-1).ravel() < 1)
    if kept.sum() < 8:
        return None
    homography, _ = cv2.findHomography(points[kept], there[kept], cv2.RANSAC, 2.0)
    return None if homography is None else np.asarray(homography, np.float64)


def grey(picture: Frame) -> Frame:
    """(H, W) of an RGB picture."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


def run_plane(
    folder: Path, count: int, key: int, outline: tuple[int, int, int, int]
) -> tuple[dict[int, Homography], float]:
    """Writes the tracker's frames to folder/plane. Its homographies, and the processor's milliseconds a frame."""
    started = time.process_time()
    plates = {number: read(folder / "plate", number) for number in range(count)}
    painted = read(folder, f"key{key}")
    matte = (painted != plates[key]).any(-1).astype(np.float32)
    found = tracked(plates, key, outline)
    for number, plate in plates.items():
        result = plate
        if number in found:
            size = plate.shape[1::-1]
            alpha = cv2.warpPerspective(matte, found[number], size)[..., None]
            colour = cv2.warpPerspective(painted, found[number], size, flags=cv2.INTER_CUBIC)
            result = np.rint(plate + alpha * (colour.astype(np.float32) - plate)).astype(np.uint8)
        write(folder / "plane", number, result)
    return found, (time.process_time() - started) * 1000 / count


def whole(change: NDArray[np.float32], painted: NDArray[np.float32], homography: Homography) -> tuple[float, float]:
    """The correlation of a frame's change (H, W, 3), brought back to the keyframe, with the keyframe's; and the ratio
    of their areas."""
    back = cv2.warpPerspective(change, homography, painted.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    x, y, width, height = cv2.boundingRect(np.any(painted != 0, axis=-1).astype(np.uint8))
    padded = cv2.copyMakeBorder(back, SLACK, SLACK, SLACK, SLACK, cv2.BORDER_CONSTANT)
    field = padded[y : y + height + 2 * SLACK, x : x + width + 2 * SLACK]
    part = painted[y : y + height, x : x + width]
    alike = cv2.matchTemplate(field, part, cv2.TM_CCORR_NORMED)
    area = float((np.abs(back).max(-1) > 4).sum()) / float((np.abs(painted).max(-1) > 4).sum())
    return float(np.nan_to_num(alike).max()), area


def grown(bounds: Sequence[int]) -> tuple[int, int, int, int]:
    """A box half as large again on each side."""
    x, y, width, height = bounds
    return x - width // 2, y - height // 2, 2 * width, 2 * height


def reached(alike: Mapping[int, float], key: int, step: int) -> int:
    """The last frame on one side of the keyframe up to which the paint is whole."""
    number = key
    while alike.get(number + step, 0.0) >= WHOLE:
        number += step
    return number


def main() -> None:
    """Runs both methods and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("keyframe", help="FRAME=PICTURE, the frame counted from 0")
    parser.add_argument("--outline", default="", help="X,Y,WIDTH,HEIGHT of the surface, on the keyframe")
    parser.add_argument("--reach", type=int, default=10_000, help="frames on either side of the keyframe")
    parser.add_argument("--sheet", type=Path, help="a contact sheet to write")
    arguments = parser.parse_args()
    number, _, picture = arguments.keyframe.partition("=")
    pictures = sorted(arguments.frames.glob("*.jpg"))
    first = max(0, int(number) - arguments.reach)
    key, used = int(number) - first, pictures[first : int(number) + arguments.reach + 1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, path in enumerate(used):
            write(folder / "plate", index, cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        write(folder, f"key{key}", cv2.cvtColor(cv2.imread(picture), cv2.COLOR_BGR2RGB))
        painted = read(folder, f"key{key}").astype(np.float32) - read(folder / "plate", key)
        bounds = cv2.boundingRect((np.abs(painted).max(-1) > 4).astype(np.uint8))
        outline = tuple(map(int, arguments.outline.split(","))) if arguments.outline else grown(bounds)
        timing = run_draft(BenchmarkCase("painting", len(used), (key,), lambda index: (painted, painted)), folder)
        planes, cpu = run_plane(folder, len(used), key, outline)
        for method, spent in (("draft", timing.cpu), ("plane", cpu)):
            figures = {
                index: whole(
                    read(folder / method, index).astype(np.float32) - read(folder / "plate", index), painted, plane
                )
                for index, plane in planes.items()
                if index != key
            }
            alike = {index: figure[0] for index, figure in figures.items()}
            until = f"{first + reached(alike, key, -1)}..{first + reached(alike, key, 1)}"
            if not figures:
                raise SystemExit("The plane is lost in the first frame; give --outline X,Y,WIDTH,HEIGHT of a surface.")
            mean, area = np.mean(list(figures.values()), axis=0)
            figures_line = f"whole {mean:.2f}  until {until:>7}  area {area:.2f}  cpu {spent:.0f}"
            print(f"{Path(picture).stem:16} {method:6} {figures_line}", flush=True)
        if arguments.sheet:
            numbers = np.linspace(0, len(used) - 1, 7).astype(int).tolist()
            rows = [(each, {n: read(folder / each, n) for n in numbers}) for each in ("plate", "draft", "plane")]
            write(arguments.sheet.parent, arguments.sheet.stem, contact_sheet(rows, numbers, (key,), 2400))


if __name__ == "__main__":
    main()
