#!/usr/bin/env python3
"""How well the draft's flow alone carries objects along, where their masks are known.

    python benchmarks/motion.py --davis FOLDER [--cases NAME …] [--frames N]

The true mask of each frame, moved to the next by flow, against that one's own: intersection over union, the mean and
the least; and of every fourth frame, moved over four. `alone`: each pair's flow as if nothing were known of the frames
beside it. `as it is`: flow starts from their motion.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from paintover_engine.compose import motion
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field, analysis_size, flow_size, shrink, unpack, warp

Mask = NDArray[np.float32]
CHUNK = motion.STRIDE


def read(sequence: Path, frames: int) -> tuple[list[AnalysisFrame], list[Mask]]:
    """The first frames, and their masks (h, w) 0..1 at the flow's size."""
    pictures, masks = [], []
    for path in sorted((sequence / "frames").glob("*.jpg"))[:frames]:
        picture = cv2.imread(str(path))
        mask = cv2.imread(str(sequence / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        size = picture.shape[1], picture.shape[0]
        pictures.append(AnalysisFrame(shrink(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), analysis_size(*size))))
        masks.append(shrink((mask > 0).astype(np.float32), flow_size(*size)))
    return pictures, masks


def alone(frames: Sequence[AnalysisFrame]) -> list[Field]:
    """Flow back to each frame from the next."""
    with motion.PairEstimator() as estimator:
        return [estimator.between(*pair).backward for pair in itertools.pairwise(frames)]


def as_it_is(frames: Sequence[AnalysisFrame]) -> list[Field]:
    """The same, in chunks as the draft's stages have them."""
    chunks = [
        motion.estimate(first, iter(frames[first : first + CHUNK + 1]), lambda: None)
        for first in range(0, len(frames) - 1, CHUNK)
    ]
    return [unpack(backward) for chunk in chunks for backward in chunk.backward]


def overlaps(masks: Sequence[Mask], flows: Sequence[Field], stride: int) -> list[float]:
    """Intersection over union of each mask, moved over `stride` frames, and that frame's own."""
    found = []
    for first in range(0, len(flows) - stride + 1, stride):
        moved = warp(masks[first], motion.chained(flows[first : first + stride][::-1])) > 0.5
        true = masks[first + stride] > 0.5
        found.append(float((moved & true).sum() / max(1, (moved | true).sum())))
    return found


def main() -> None:
    """Prints a line a sequence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=os.environ.get("PAINTOVER_DAVIS"))
    parser.add_argument("--cases", nargs="+", default=[], help="sequences; all of the folder's without")
    parser.add_argument("--frames", type=int, default=25, help="of each sequence at most")
    given = parser.parse_args()
    if given.davis is None:
        parser.error("--davis is missing")
    cv2.setNumThreads(1)
    names = given.cases or sorted(path.name for path in given.davis.iterdir() if (path / "masks").is_dir())
    rows = []
    print(f"{'':16s} {'to the next frame':^29s}   {'over four':^29s}")
    print(f"{'':16s} {'alone':^14s} {'as it is':^14s}   {'alone':^14s} {'as it is':^14s}")
    for name in names:
        frames, masks = read(given.davis / name, given.frames)
        flows = alone(frames), as_it_is(frames)
        rows.append([overlaps(masks, each, stride) for stride in (1, motion.STRIDE) for each in flows])
        print(line(name, rows[-1]), flush=True)
    print(line("mean", [[float(np.mean(row[column])) for row in rows] for column in range(4)]))


def line(name: str, columns: Sequence[Sequence[float]]) -> str:
    """Mean and least of each column."""
    cells = [f"{np.mean(values):.3f} ({min(values):.3f})" for values in columns]
    return f"{name:16s} {cells[0]} {cells[1]}   {cells[2]} {cells[3]}"


if __name__ == "__main__":
    main()
