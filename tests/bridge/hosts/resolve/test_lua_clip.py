"""The menu scripts in real Lua: the clip that they read, and the clips that they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from paintover_bridge.hosts import resolve as package

from tests.bridge.hosts.resolve.standin import LUAS, REFUSED, Resolve, Timeline, clip

pytestmark = pytest.mark.skipif(
    not LUAS, reason="SKIPPED: RESOLVE'S SCRIPTS ARE NOT TESTED, luajit AND lua5.1 ARE MISSING"
)

NOBODY = ["/nonexistent/python", "-m", "x"]


@pytest.fixture
def alone(tmp_path: Path) -> Resolve:
    """Resolve where no runner answers, so that sentences end as markers."""
    made = Resolve(tmp_path, LUAS[0], NOBODY)
    made.install()
    return made


def sentence(state: dict[str, Any]) -> str:
    """The one that the artist sees where no runner answers."""
    assert len(state["markers"]) == 1, state
    return str(state["markers"][0]["note"])


# What it reads.


def read_request(host: Resolve, timeline: Timeline) -> dict[str, Any]:
    """The request that "Paint this frame" makes; nobody takes it."""
    host.run("Paint this frame", timeline)
    requests = [json.loads(path.read_text("utf-8")) for path in (host.mailbox / "requests").glob("*.json")]
    [request] = [one for one in requests if one["do"] == "paint"]
    return request


def test_playhead_frame_is_counted_in_the_file(alone: Resolve) -> None:
    request = read_request(alone, Timeline())
    assert (request["source"], request["frame"], request["first"], request["last"]) == (
        "/media/sh010.mov",
        105,
        100,
        147,
    )
    assert request["output"] == "/media/paintover/sh010_paintover.mov"


def test_sequence_uses_its_pattern_and_file_numbers(alone: Resolve) -> None:
    request = read_request(alone, Timeline([[clip("/plates/sh010.[1001-1400].exr")]]))
    assert request["source"] == "/plates/sh010.%04d.exr"
    assert (request["frame"], request["first"], request["last"]) == (1106, 1101, 1148)
    assert request["output"] == "/plates/paintover/sh010_paintover/sh010.%04d.exr"


def test_a_file_whose_name_has_brackets_is_no_sequence(alone: Resolve, tmp_path: Path) -> None:
    path = tmp_path / "take [1-2].mov"
    path.touch()
    assert read_request(alone, Timeline([[clip(str(path))]]))["source"] == str(path)


def test_a_drop_frame_timecode_is_counted_right(alone: Resolve) -> None:
    start = 107892  # 01:00:00;00 at 29.97
    item = clip(start=start + 1700, duration=300, properties={"FPS": 29.97})
    timeline = Timeline([[item]], "29.97 DF", start + 1800, "01:01:00;02", "01:00:00;00", start)
    assert read_request(alone, timeline)["frame"] == 200


def test_source_start_off_by_one_is_corrected(alone: Resolve) -> None:
    assert read_request(alone, Timeline([[clip(source_start=101, source_end=148)]]))["frame"] == 105


def test_the_item_on_top_is_painted(alone: Resolve) -> None:
    timeline = Timeline([[clip()], [clip("/media/top.mov", name="top", offset=0)]])
    assert read_request(alone, timeline)["source"] == "/media/top.mov"


def test_item_is_polled_just_after_an_edit(alone: Resolve) -> None:
    assert read_request(alone, Timeline(more={"deaf": 103}))["frame"] == 105


@pytest.mark.parametrize(
    ("named", "space"),
    [("ARRI LogC4", "ARRI LogC4"), ("Rec.709 Gamma 2.4", ""), ("S-Gamut3.Cine/S-Log3", "S-Log3 S-Gamut3.Cine"),
     ("Something new", "")],
)  # fmt: skip
def test_the_clips_colour_space_is_handed_on(alone: Resolve, named: str, space: str) -> None:
    timeline = Timeline([[clip(properties={"Input Color Space": named})]])
    assert read_request(alone, timeline)["colorspace"] == space


def test_engine_knows_the_scripts_colour_spaces() -> None:
    from paintover_engine.media.colour import known

    text = (package.LUA / package.RESOLVE_MODULE).read_text("utf-8")
    table = text[text.index("local COLOURS") : text.index("function M.colorspace")]
    spaces = [part.split('"')[0] for part in table.split(', "')[1:]]
    assert len(spaces) == 10
    assert [space for space in spaces if not known(space)] == []


# What it refuses.


@pytest.mark.parametrize(("timeline", "message"), REFUSED)
def test_unsupported_clips_are_refused(alone: Resolve, timeline: Timeline, message: str) -> None:
    state = alone.run("Paint this frame", timeline)
    assert message in state["printed"][0] and state["printed"][0].endswith(".")
    if not timeline.more.get("no_project") and timeline.timecode:  # there is a place for a marker
        assert message in sentence(state)
    assert state["calls"].count("ImportMedia") == 0


def test_without_a_timeline_it_says_so(alone: Resolve) -> None:
    assert "No timeline is open" in alone.run("Paint this frame", Timeline(more={"no_timeline": True}))["printed"][0]


def test_without_a_result_there_is_nothing_to_bring(alone: Resolve) -> None:
    assert "There is no result of 'sh010' yet" in sentence(alone.run("Bring result to timeline", Timeline()))


def test_marker_explains_a_missing_runner(alone: Resolve) -> None:
    state = alone.run("Open monitor", Timeline())
    assert sentence(state) == "Paintover does not answer; run `paintover install resolve` again."
    assert state["markers"][0]["frame"] == 5  # counted from the timeline's start
    state = alone.run("Open monitor", Timeline(more={"sandbox": True}))
    assert "start it with `paintover serve`" in sentence(state)


def test_a_wrong_setting_is_named(alone: Resolve) -> None:
    (alone.mailbox / "settings.lua").write_text('return { bring = "teleport" }\n')
    assert 'The setting bring is "teleport"' in sentence(alone.run("Paint this frame", Timeline()))
