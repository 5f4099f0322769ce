"""Paint in Resolve: the menu script, the real command and engine, two saves, and the takes that come back."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paintover_bridge import daemon
from paintover_bridge.client import connect
from paintover_bridge.hosts.resolve import lua_text
from PIL import Image
from psd_tools import PSDImage

from tests.bridge.hosts.resolve.standin import LUAS, START, Resolve, Timeline, clip
from tests.conftest import SmallShot

pytestmark = [
    pytest.mark.skipif(
        not LUAS, reason="SKIPPED: THE WAY THROUGH RESOLVE IS NOT TESTED, luajit AND lua5.1 ARE MISSING"
    ),
    pytest.mark.timeout(180),
]
SECONDS = 60.0


class Log:
    """What the runner wrote down about the one clip."""

    def __init__(self, host: Resolve) -> None:
        self._folder = host.mailbox / "clips"

    def events(self, what: str) -> list[str]:
        text = "".join(path.read_text("ascii") for path in self._folder.glob("*.lua"))
        assert 'what="error"' not in text, text
        return [line for line in text.splitlines() if f'what="{what}"' in line]

    def wait(self, what: str, count: int) -> str:
        end = time.monotonic() + SECONDS
        while len(self.events(what)) < count:
            assert time.monotonic() < end, f"no {what}"
            time.sleep(0.05)
        return self.events(what)[count - 1]


def value(event: str, name: str) -> str:
    match = re.search(rf'{name}="((?:[^"\\]|\\.)*)"', event)
    assert match
    return re.sub(r"\\(\d{3})", lambda code: chr(int(code[1])), match[1])


def save(path: str, shot: SmallShot, colour: tuple[int, int, int]) -> None:
    """What an artist's save leaves: a painted disc, flattened."""
    picture = cv2.cvtColor(shot.plate(shot.key), cv2.COLOR_BGR2RGB)
    cv2.circle(picture, (48, 32), 12, colour, -1, cv2.LINE_AA)
    PSDImage.frompil(Image.fromarray(picture)).save(path)


def paint(host: Resolve, timeline: Timeline, shot: SmallShot) -> dict[str, Any]:
    """Two saves while the script runs in Resolve; how things stand after it."""
    environment = {name: text for name, text in host.environment().items() if name != "PAINTOVER_COMMAND"}
    log = Log(host)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, "Paint this frame", timeline, environment)
        try:
            picture = value(log.wait("exported", 1), "path")
            log.wait("opened", 1)
            for number, colour in enumerate([(230, 40, 40), (40, 60, 230)], 1):
                save(picture, shot, colour)
                log.wait("done", number)
        finally:  # painting the same frame anew ends this one
            for path in (host.mailbox / "clips").iterdir():
                with open(path, "a") as file:
                    file.write(f'event{{what="started",run="other",verb="paint",frame={shot.key},}}\n')
        state = running.result(SECONDS)
        log.wait("ended", 1)
    return state


def test_two_saves_come_back_as_takes_and_a_final_replaces_them(small_shot: SmallShot, tmp_path: Path) -> None:
    host = Resolve(tmp_path / "resolve", LUAS[0], data_name="data")
    host.install()
    (host.mailbox / "settings.lua").write_text(
        f'return {{ editor = "none", output = {lua_text(str(tmp_path / "out"))} }}\n'
    )
    plate = str(small_shot.source / "[00000-00011].png")
    item = clip(plate, offset=0, duration=small_shot.count, name="sh010", properties={"Frames": "12"})
    timeline = Timeline([[item]], playhead=START + small_shot.key, timecode=f"01:00:00:{small_shot.key:02d}")
    timeline.more = {"real_time": True, "deaf": 0, "open_bin": True}
    try:
        state = paint(host, timeline, small_shot)
        [[shown]] = state["tracks"]
        takes = [shown["takes"][0], *map(Path, shown["takes"][1:])]
        assert takes[0] == plate and shown["take"] == 3
        assert [take.parent.name for take in takes[1:]] == ["v001", "v002"]
        assert (shown["start"], shown["duration"]) == (START, small_shot.count)
        assert state["open_bin"] == "Rushes" and state["printed"][-1].endswith("is on 'sh010' as take 3.")

        # What the takes show: red, then blue, on every frame; what was not painted is the plate, bit for bit.
        for take, channel in zip(takes[1:], (2, 0), strict=True):
            for number in range(small_shot.count):
                frame = cv2.imread(str(take.with_name(f"{number:05d}.png"))).astype(int)
                plain = small_shot.plate(number).astype(int)
                changed = np.abs(frame - plain).max(axis=2) > 60
                assert changed.sum() > 150, f"{take} {number}"
                assert frame[changed].mean(axis=0).argmax() == channel
                assert np.array_equal(frame[:8], plain[:8])

        # The final, by the menu's second entry.
        environment = {name: text for name, text in host.environment().items() if name != "PAINTOVER_COMMAND"}
        state = host.run("Propagate", timeline, environment)
        assert state["tracks"][0][0]["takes"][1].endswith("/v003/[00000-00011].png")
        assert sorted(path.name for path in (tmp_path / "out" / "frames_paintover").iterdir()) == [
            "v001",
            "v002",
            "v003",
        ]
    finally:
        if (host.data / "engine.json").exists():
            with connect(host.data, start=False) as client:
                client.stop_engine(when_idle=False)
    assert os.listdir(host.mailbox / "requests") == ["about.txt"]


def test_the_free_edition_paints_wherever_an_engine_runs(
    small_shot: SmallShot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scripts start no program: they leave a request in Fusion's preferences, which the engine has watched."""
    home = tmp_path / "home"
    preferences = home / ".local" / "share" / "DaVinciResolve" / "Fusion" / "Profiles" / "Default" / "Fusion.prefs"
    preferences.parent.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("PAINTOVER_COMMAND", raising=False)
    host = Resolve(tmp_path / "resolve", LUAS[0], ["/nonexistent"])
    host.install()
    (host.mailbox / "settings.lua").write_text('return { editor = "none" }\n')
    plate = str(small_shot.source / "[00000-00011].png")
    item = clip(plate, offset=0, duration=small_shot.count, properties={"Frames": "12"})
    timeline = Timeline([[item]], playhead=START + small_shot.key, timecode=f"01:00:00:{small_shot.key:02d}")
    timeline.more = {"real_time": True, "deaf": 0, "sandbox": True, "preferences": str(preferences)}
    with connect(host.data, ephemeral=False) as client:
        try:
            state = paint(host, timeline, small_shot)
        finally:
            client.stop_engine(when_idle=False)
        assert daemon.wait_until_gone(client.endpoint, 20)
    [[shown]] = state["tracks"]
    assert shown["take"] == 3 and shown["takes"][2].endswith("/v002/[00000-00011].png")
    assert state["calls"].count("SavePrefs") >= 1
