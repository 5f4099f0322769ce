#!/usr/bin/env python3
"""How fast the OpenFX effect puts a 4K result frame into a host's picture, next to plain copies of memory.

    python benchmarks/openfx.py [BUNDLE]

A real engine makes the frame: a whole-picture grade, so that paint covers every pixel, which is the worst case. The
effect is loaded into the tests' small host. One line a depth: the median time of a render, of copying the mapped result
frame (half floats), and of copying the host's picture. Runs on x86-64 Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from paintover_bridge.client import connect  # noqa: E402

from tests.plugin_ofx.ofx_host import DEPTHS, OK, Host, Image, Properties, Quirks, make_image  # noqa: E402

WIDTH, HEIGHT = 3840, 2160
ROUNDS = 15


def make_shot(folder: Path) -> tuple[Path, Path]:
    """Two 4K frames and the first of them graded: the folder of frames, and the keyframe."""
    noise = np.random.default_rng(3).integers(30, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    plate = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    source = folder / "plate"
    source.mkdir()
    for number in range(2):
        cv2.imwrite(str(source / f"{number:04d}.png"), plate, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    keyframe = folder / "keyframe.png"
    cv2.imwrite(str(keyframe), cv2.convertScaleAbs(plate, alpha=0.8, beta=30), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return source, keyframe


def median(work: Callable[[], object]) -> float:
    """Milliseconds of the median round."""
    work()
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def measure(host: Host, job: str, depth: str) -> float:
    """Milliseconds of a render of frame 0, all of it known already."""
    pixels = np.full((HEIGHT, WIDTH, 4), 0.5 if depth in ("half", "float") else 100, DEPTHS[depth][1])
    images: dict[str, Image] = {name: make_image(pixels, host.quirks) for name in ("Source", "Output")}
    effect = host.create({"job": job, "hostColorspace": "As the source"}, lambda _time: pixels)

    def image(clip: str, _time: float) -> Image:
        found = images[clip]
        return Image(found.memory, found.rows, Properties(dict(found.properties.values)))

    effect.image = image  # type: ignore[method-assign]
    window = list(images["Output"].properties.values["OfxImagePropBounds"])

    def render() -> None:
        arguments = Properties({"OfxPropTime": [0.0], "OfxImageEffectPropRenderWindow": window})
        assert effect.action("OfxImageEffectActionRender", arguments) == OK

    took = median(render)
    assert not np.array_equal(images["Output"].rows, pixels), "the frame was not painted"
    return took


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, default=ROOT / "plugin_ofx/build/Paintover.ofx.bundle")
    library = parser.parse_args().bundle / "Contents" / "Linux-x86-64" / "Paintover.ofx"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PAINTOVER_DATA"] = str(folder / "data")
        source, keyframe = make_shot(folder)
        with connect(folder / "data", ephemeral=False) as client:
            shot = client.create_shot(source)
            client.put_keyframe(shot.name, 0, keyframe)
            job = client.create_job(shot.name, parameters={"mode": "grade"}).name
            assert client.wait_until_finished(job, 300), "the engine did not finish"
            pixels = np.frombuffer(client.get_frame(job, 0, mapped=True).pixels(), np.uint8)
            into = np.empty_like(pixels)
            copy_result = median(lambda: np.copyto(into, pixels))
            print(f"{pixels.nbytes >> 20} MiB of result")
            print(f"{'depth':6} {'render':>9} {'copy of result':>15} {'copy of picture':>16}")
            for depth in DEPTHS:
                own = folder / f"{depth}.ofx"
                shutil.copyfile(library, own)
                host = Host(own, Quirks(depth=depth))
                took = measure(host, job, depth)
                picture = np.ones((HEIGHT, WIDTH, 4), DEPTHS[depth][1])
                target = np.empty_like(picture)
                copy_picture = median(lambda target=target, picture=picture: np.copyto(target, picture))
                ratios = f"({took / copy_result:.2f}, {took / copy_picture:.2f} times)"
                print(f"{depth:6} {took:6.1f} ms {copy_result:12.1f} ms {copy_picture:13.1f} ms   {ratios}")
            client.stop_engine(when_idle=False)


if __name__ == "__main__":
    main()
