#!/usr/bin/env python3
"""How often each method has its network compute, counted while it works: forward passes of one clip or picture.

    benchmarks/evaluations.py

Every method runs with its defaults on one window, an edit on its first frame; FlowEdit also between two keyframes on
models that take both, and on models that take one. The networks are of the true classes with random weights, or ours
that ship: how often they are called does not depend on what they have learned.

    prepared   passes that need no keyframe
    painting   passes that need it: what a second edit of the shot takes
    a frame    painting, by the frames that a window of the method's full-size model paints: 80 of 81 for Wan, 13 of 14
               for Stable Video Diffusion
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clip_job import ClipJob
from paintover_engine.methods.registry import METHODS, plan_stages
from paintover_engine.methods.stage import KeyframeRef
from passes import counting

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.engine import wan_folders


@dataclass(frozen=True)
class Row:
    """name: of a table's row. model: a layout of `wan_folders`, or a shipped model. keys: keyframes. frames: of the
    shot; painted: those of the method's full-size windows that are painted."""

    name: str
    method: str
    model: str
    frames: int
    painted: int
    keys: tuple[int, ...] = (0,)
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def random(self) -> bool:
        """Whether its model has random weights."""
        return self.model in wan_folders.LAYOUTS or self.model == "flf2v"


SVD = (("strength", 0.55), ("guidance", 4.0))
"""What the method takes with the full-size model; the small one has others of its own."""

ROWS = (
    Row("FlowEdit", "flowedit", "i2v", 9, 80),
    Row("FlowEdit, 2.2 A14B", "flowedit", "a14b", 9, 80),
    Row("FlowEdit with a prompt (`guidance=5`)", "flowedit", "i2v", 9, 80, (0,), (("prompt", "a"), ("guidance", 5.0))),
    Row("FlowEdit from the draft (`start=draft`, `n_max=12`)", "flowedit", "i2v", 9, 80, (0,),
        (("start", "draft"), ("n_max", 12))),
    Row("FlowEdit between two keyframes, given both", "flowedit", "flf2v", 9, 80, (0, 8)),
    Row("FlowEdit between two keyframes, blended", "flowedit", "i2v", 9, 80, (0, 8)),
    Row("Videoshop on Wan", "videoshop", "i2v", 9, 80),
    Row("Videoshop on Wan, midpoint", "videoshop", "i2v", 9, 80, (0,), (("inversion", "midpoint"),)),
    Row("VACE", "vace", "vace", 9, 80),
    Row("VACE with a prompt (`guidance=5`)", "vace", "vace", 9, 80, (0,), (("prompt", "a"), ("guidance", 5.0))),
    Row("Videoshop on Stable Video Diffusion", "videoshop", "small-svd", 5, 13, (0,), SVD),
    Row("the same without guidance (`guidance=1`)", "videoshop", "small-svd", 5, 13, (0,), (*SVD, ("guidance", 1.0))),
)  # fmt: skip


def clip(name: str, frames: int) -> ClipJob:
    """A texture that slides, with a disc painted on its first frame."""
    width, height = wan_folders.SIZE
    picture = np.random.default_rng(1).random((height, width + frames, 3), np.float32)
    video = np.stack([picture[:, number : number + width] for number in range(frames)])
    painted = video[0].copy()
    painted[8:24, 20:44] = (0.9, 0.1, 0.1)
    return ClipJob(name, video, painted)


def counts(row: Row, folder: Path) -> tuple[int, int]:
    """The passes before there is a keyframe, and those that need it."""
    spec = METHODS[row.method]
    model = str(folder / row.model) if row.random else row.model
    given = spec.parameters(**dict(row.parameters))
    shot = clip(row.name, row.frames)
    keys = [KeyframeRef(number, f"key{number}") for number in row.keys]
    stages = plan_stages(spec, shot.info, keys, given, model)
    found = []
    for needs_keyframe in (False, True):
        with counting() as counted:
            shot.run([s for s in stages if s.needs_keyframe == needs_keyframe and not s.publishes])
        found.append(sum(counted))
    return found[0], found[1]


def main() -> None:
    """Prints the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| | prepared | painting | together | painting, a frame |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        for layout in {row.model for row in ROWS if row.random}:
            wan_folders.save(layout, Path(made) / layout)
        for row in ROWS:
            prepared, painting = counts(row, Path(made))
            cells = (row.name, prepared or "", painting, prepared + painting, f"{painting / row.painted:.2f}")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
