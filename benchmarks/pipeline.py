#!/usr/bin/env python3
"""The whole way of a draft, as a user runs it: decode, propagate, composite, encode.

    benchmarks/pipeline.py [--size 854x480] [--frames 100 1000] [--case mark] [--output result.mp4]

For each number of frames it renders a shot and its painted keyframe, runs `paintover propagate` with a daemon of its
own and prints frames per second (of the whole command, its start and end included) and the peak memory of the daemon
and its workers together; then the same for a second edit, which adds something and finds the shot's flow; and for a
third, the first in other colours, which finds also where the paint goes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
from paintover_engine.media.source import open_source, probe
from paintover_evaluation.scenes import CASES, SceneCase


def render(folder: Path, case: SceneCase, count: int, width: int, height: int) -> tuple[Path, dict[str, Path]]:
    """A video of `count` frames (the scene runs to and fro), and three edits of its keyframe."""
    shot = folder / "shot.mp4"
    with av.open(str(shot), "w") as container:
        stream = container.add_stream("h264", rate=Fraction(24), options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frames = [case.render(number, width, height).plate for number in range(case.length)]
        for number in range(count):
            turn = number % (2 * case.length - 2)
            picture = frames[min(turn, 2 * case.length - 2 - turn)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    with open_source(probe(str(shot))) as source:
        plate = source.read(case.keyframe).display()
    rendered = case.render(case.keyframe, width, height)
    painted = (rendered.truth != rendered.plate).any(-1, keepdims=True)
    picture = np.where(painted, rendered.truth, plate)  # painted on what the video shows, as an artist does
    added = cv2.circle(picture.copy(), (width // 2, height // 2), height // 10, (30, 200, 90), -1, cv2.LINE_AA)
    recoloured = np.where((picture != plate).any(-1, keepdims=True), 255 - picture, picture)
    edits = {}
    for name, edit in (("first", picture), ("second", added), ("recolour", recoloured)):
        edits[name] = folder / f"{name}.png"
        cv2.imwrite(str(edits[name]), edit[..., ::-1])
    return shot, edits


@dataclass
class Measured:
    """One run of the command: seconds, and peak resident memory in bytes of the engine's processes together."""

    seconds: float
    memory: int


def run(arguments: list[str], data_dir: Path) -> Measured:
    """Runs `paintover` and samples the memory of the daemon and the workers under it."""
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.05):
            total = 0
            for process in psutil.process_iter(["cmdline"]):
                if str(data_dir) in (process.info["cmdline"] or []) and "paintover_bridge" not in str(process.info):
                    try:
                        total += process.memory_info().rss
                    except psutil.NoSuchProcess:
                        continue
            peak = max(peak, total)

    sampler = threading.Thread(target=sample)
    sampler.start()
    started = time.perf_counter()
    command = [sys.executable, "-m", "paintover_bridge", *arguments]
    environment = {**os.environ, "PAINTOVER_DATA": str(data_dir)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    seconds = time.perf_counter() - started
    done.set()
    sampler.join()
    return Measured(seconds, peak)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="854x480")
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--case", default="mark", choices=CASES, help="the rendered scene")
    parser.add_argument("--output", default="result.mp4", help="its ending chooses the encoder")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    print(f"{'frames':>7} {'edit':>8} {'seconds':>8} {'frames/s':>9} {'peak MB':>8} {'of the first':>13}")
    case = CASES[arguments.case]
    first: Measured | None = None
    for count in arguments.frames:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shot, edits = render(folder, case, count, width, height)
            for edit, picture in edits.items():
                measured = run(
                    [
                        "propagate", str(shot), "--keyframe", f"{case.keyframe}={picture}",
                        "-o", str(folder / f"{edit}-{arguments.output}"),
                    ],
                    folder / "data",
                )  # fmt: skip
                first = first or measured
                print(
                    f"{count:>7} {edit:>8} {measured.seconds:>8.1f} {count / measured.seconds:>9.1f} "
                    f"{measured.memory / 1e6:>8.0f} {measured.memory / first.memory:>13.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
