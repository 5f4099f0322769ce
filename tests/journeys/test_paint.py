"""An artist's hour: paint a frame in real GIMP, save, see the draft, paint more, save again.

GIMP writes Photoshop files in place, piece by piece, from a process of its own: what a watcher must bear.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paintover_bridge.client import Client, connect

from tests.conftest import SmallShot, make_small_shot

GIMP = shutil.which("gimp") or shutil.which("gimp-2.10")
SECONDS = 120.0

STROKE = """
(define image (car (gimp-file-load RUN-NONINTERACTIVE "{path}" "{path}")))
(define layer (vector-ref (cadr (gimp-image-get-layers image)) 0))
(gimp-context-set-foreground (list 230 40 40))
(gimp-image-select-ellipse image CHANNEL-OP-REPLACE {x} {y} {side} {side})
(gimp-edit-fill layer FILL-FOREGROUND)
(gimp-selection-none image)
(file-psd-save RUN-NONINTERACTIVE image layer "{path}" "{path}" 0 0)
"""


def _version() -> str:
    if GIMP is None:
        return ""
    ran = subprocess.run([GIMP, "--version"], capture_output=True, text=True, check=False)
    return ran.stdout.strip().rpartition(" ")[2]


pytestmark = [
    pytest.mark.skipif(GIMP is None, reason="GIMP is not installed: apt-get install gimp"),
    pytest.mark.skipif(not _version().startswith("2.10"), reason="the strokes are written for GIMP 2.10's procedures"),
    pytest.mark.timeout(400),
]


SAVE_AS_XCF = (
    STROKE.rpartition("(file-psd-save")[0].replace(
        "(gimp-context",
        """
(define port (open-output-file "{active}"))
(display (car (gimp-item-get-name (car (gimp-image-get-active-layer image)))) port)
(close-output-port port)
(gimp-context""",
        1,
    )
    + """
(gimp-file-save RUN-NONINTERACTIVE image layer "{xcf}" "{xcf}")
"""
)

USE_PLUG_IN = """
(define port (open-output-file "{told}"))
(define (tell what) (write what port) (newline port))
(tell (car (cadr (gimp-plugins-query "Over a Shot"))))
(script-fu-paintover-paint "{frame}" 0)
(define image (vector-ref (cadr (gimp-image-list)) 0))
(define layer (car (gimp-image-get-active-drawable image)))
(tell (car (gimp-item-get-name layer)))
(gimp-context-set-foreground (list 230 40 40))
(define (stroke-and-look x)
  (gimp-image-select-ellipse image CHANNEL-OP-REPLACE x 100 60 60)
  (gimp-edit-fill layer FILL-FOREGROUND)
  (gimp-selection-none image)
  (script-fu-paintover-draft image layer)
  (define draft (vector-ref (cadr (gimp-image-list)) 0))
  (define groups (vector->list (cadr (gimp-image-get-layers draft))))
  (tell (map (lambda (each) (car (gimp-item-get-name each))) groups))
  (define last (car (reverse groups)))
  (tell (vector->list (cadr (gimp-drawable-get-pixel last (+ x 28) 130))))
  (tell (car (gimp-image-list))))
(stroke-and-look 100)
(stroke-and-look 300)
(close-output-port port)
(gimp-quit 1)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user with Paintover's plug-in in GIMP, which looks through its plug-ins once for all tests."""
    folder = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment["HOME"] = str(folder)
    install = [sys.executable, "-m", "paintover_bridge", "install", "gimp"]
    subprocess.run(install, env=environment, check=True, capture_output=True)
    # Of GIMP's own 150 plug-ins those alone that the tests use: at its first start it asks each what it does.
    for system in Path("/usr/lib").glob("**/gimp/2.0/plug-ins"):
        settings = folder / ".config" / "GIMP" / "2.10"
        for name in ("file-psd", "script-fu"):
            (settings / "of-gimp").mkdir(exist_ok=True)
            (settings / "of-gimp" / name).symlink_to(system / name)
        (settings / "gimprc").write_text('(plug-in-path "${gimp_dir}/plug-ins:${gimp_dir}/of-gimp")\n')
    return environment


class Artist:
    """Runs GIMP once for each save, as its user sees it: open, paint on the top layer, save in place."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._script = folder / "stroke.scm"
        self._environment = environment

    def paint(self, picture: Path, x: int, y: int, side: int) -> None:
        """Fills an ellipse of a width and height at a place; returns when GIMP has saved."""
        before = picture.stat().st_mtime_ns
        self.run(STROKE.format(path=picture, x=x, y=y, side=side))
        assert picture.stat().st_mtime_ns != before, "GIMP did not save"

    def run(self, script: str) -> None:
        self._script.write_text(script)
        load = f'(load "{self._script}")'
        command = [str(GIMP), "-i", "-d", "-f", "-b", load, "-b", "(gimp-quit 0)"]
        subprocess.run(command, env=self._environment, capture_output=True, timeout=SECONDS, check=True)


class Painter:
    """`paintover paint --json` at work. Each event comes with the time at which it was read."""

    def __init__(self, environment: dict[str, str], *arguments: object) -> None:
        command = [sys.executable, "-m", "paintover_bridge", "paint", *map(str, arguments), "--json"]
        environment = {**environment, "PAINTOVER_DATA": os.environ["PAINTOVER_DATA"]}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self._lines: queue.SimpleQueue[tuple[float, str] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put((time.time(), line))
        self._lines.put(None)

    def until(self, kind: str) -> tuple[float, dict[str, Any]]:
        while True:
            read = self._lines.get(timeout=SECONDS)
            assert read is not None, f"ended before '{kind}'"
            event = json.loads(read[1])
            assert event["event"] != "error", event["message"]
            if event["event"] == kind:
                return read[0], event

    def end(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(SECONDS)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def shot(tmp_path: Path) -> SmallShot:
    return make_small_shot(tmp_path / "shot", count=12, key=5, width=400, height=216)


@pytest.fixture
def session(data_dir: Path, shot: SmallShot, home: dict[str, str], tmp_path: Path) -> Iterator[Painter]:
    running = Painter(home, shot.source, "--frame", 5, "--editor", "none", "-o", tmp_path / "out")
    yield running
    running.kill()
    with contextlib.suppress(Exception), connect(data_dir, start=False) as client:
        client.stop_engine(when_idle=False)


def red(path: Path) -> np.ndarray:
    """Where a written frame shows the paint's colour."""
    blue, green, red_ = (cv2.imread(str(path))[..., c].astype(int) for c in range(3))
    return (red_ > 150) & (green < 110) & (blue < 110)


def test_each_save_in_gimp_shows_in_the_draft_and_outdates_the_one_before(
    session: Painter, shot: SmallShot, home: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = Path(session.until("exported")[1]["path"])
    session.until("editor")
    artist = Artist(tmp_path, home)

    artist.paint(picture, 100, 60, 60)
    saved = picture.stat().st_mtime
    there, frame = session.until("frame")
    first_wait = there - saved
    assert frame["number"] == 5

    artist.paint(picture, 300, 120, 80)
    saved = picture.stat().st_mtime
    session.until("saved")
    there, frame = session.until("frame")
    second_wait = there - saved
    with capsys.disabled():
        print(f"\nfirst frame {first_wait:.2f} s and {second_wait:.2f} s after the saves", end=" ")

    session.until("done")
    assert session.end() == 0
    written = sorted((tmp_path / "out").glob("*.png"))
    assert len(written) == shot.count
    for number in (1, 5, 10):  # both strokes, moved with the picture, in what the second save's job wrote
        mask = red(written[number])
        shift = 2 * (5 - number)
        for x, y, side in ((100, 60, 60), (300, 120, 80)):
            centre = mask[y + side // 2, x + side // 2 + shift]
            assert centre, (number, x)
        plate = shot.plate(number)
        assert np.array_equal(cv2.imread(str(written[number]))[:40], plate[:40])


def test_gimp_opens_on_the_paint_layer_and_its_xcf_is_taken(
    session: Painter, shot: SmallShot, home: dict[str, str], tmp_path: Path
) -> None:
    picture = Path(session.until("exported")[1]["path"])
    session.until("editor")
    artist = Artist(tmp_path, home)
    xcf, active = picture.with_suffix(".xcf"), tmp_path / "active"
    artist.run(SAVE_AS_XCF.format(path=picture, xcf=xcf, active=active, x=100, y=60, side=60))
    assert active.read_text() == "Paint"
    assert session.until("saved")[1]["path"] == str(picture.with_suffix(".xcf"))
    assert session.until("keyframe")[1]["has_matte"]  # of the layer, as from the PSD
    session.until("done")
    assert session.end() == 0
    assert red(sorted((tmp_path / "out").glob("*.png"))[10])[90, 130 - 10]


def test_gimps_plug_in_paints_and_shows_the_draft(
    display: dict[str, str], client: Client, shot: SmallShot, home: dict[str, str], tmp_path: Path
) -> None:
    told, script = tmp_path / "told", tmp_path / "plug-in.scm"
    script.write_text(USE_PLUG_IN.format(told=told, frame=shot.source / "00005.png"))
    command = [str(GIMP), "--no-splash", "-d", "-f", "-b", f'(load "{script}")']
    environment = {**home, **display, "PAINTOVER_DATA": os.environ["PAINTOVER_DATA"]}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert told.exists(), ran.stderr
    menu, active, *looks = told.read_text().splitlines()
    assert menu == '"<Image>/File/Paint Over a Shot..."' and active == '"Paint"', ran.stderr
    first, colour, count, second, colour_2, count_2 = looks
    assert '"Frame 6, ' in first and '"Frame 6, ' in second
    assert colour == colour_2 == "(230 40 40 255)"  # frame 6: both strokes went with the picture
    assert count == count_2 == "2"  # the second draft took the place of the first
