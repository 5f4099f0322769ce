"""Paintover's plug-in in real Krita, driven by a plug-in of the test's own, from the menu entry to the draft."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paintover_bridge.client import Client

from tests.conftest import make_small_shot

KRITA = shutil.which("krita")
DRIVER = Path(__file__).with_name("krita_driver.py")
DESKTOP = "[Desktop Entry]\nType=Service\nServiceTypes=Krita/PythonPlugin\nX-KDE-Library=driver\nName=Driver\n"
ENABLED = "[python]\nenable_driver=true\nenable_paintover_krita=true\n"  # as the Python Plugin Manager writes it

pytestmark = [
    pytest.mark.skipif(KRITA is None, reason="Krita is not installed: apt-get install krita python3-pyqt5 xvfb"),
    pytest.mark.skipif(
        not Path("/usr/lib/python3/dist-packages/PyQt5").is_dir(), reason="Krita's Python has no PyQt5: python3-pyqt5"
    ),
    pytest.mark.timeout(400),
]


def test_krita_paints_a_frame_and_shows_the_draft(display: dict[str, str], client: Client, tmp_path: Path) -> None:
    shot = make_small_shot(tmp_path / "shot", count=6, key=2, width=480, height=270)
    home = tmp_path / "home"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
        **display,
        "HOME": str(home),
        "SHOT_FRAME": str(shot.source / "00002.png"),
        "DRIVEN": str(tmp_path / "driven.json"),
    }
    install = [sys.executable, "-m", "paintover_bridge", "install", "krita"]
    subprocess.run(install, env=environment, check=True, capture_output=True)
    plugins = home / ".local" / "share" / "krita" / "pykrita"
    (plugins / "driver").mkdir()
    shutil.copy(DRIVER, plugins / "driver" / "__init__.py")
    (plugins / "driver.desktop").write_text(DESKTOP)
    (home / ".config").mkdir(exist_ok=True)
    (home / ".config" / "kritarc").write_text(ENABLED)
    with open(tmp_path / "krita.log", "wb") as log:
        subprocess.run([str(KRITA), "--nosplash"], env=environment, stderr=log, stdout=log, timeout=200, check=True)
    told = json.loads((tmp_path / "driven.json").read_text())
    assert "error" not in told, told["error"]
    assert told["file"].endswith("_0002.psd") and told["active"] == "Paint" and told["saved"]
    assert {name.partition(",")[0] for name in told["frames"]} >= {"Frame 1", "Frame 3"}
    for red, green, blue, _ in (told["painted"], told["of_kra"]):  # of frame 3, where the stroke went with the picture
        assert red > 180 > 90 > max(green, blue)
    assert told["documents"] == 1  # the draft's file was looked into, not left open
