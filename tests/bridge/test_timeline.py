"""A clip of an OpenTimelineIO file in, the same timeline with the edit as another media reference out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paintover_bridge.errors import ClientError
from paintover_bridge.timeline import check_rate, is_clip, locate, result_paths, write_result

from tests.conftest import SmallShot

otio = pytest.importorskip("opentimelineio", reason="OpenTimelineIO (the bridge's [timelines] extra) is not installed")

RATE = 24.0


def span(start: float, count: float, rate: float = RATE) -> Any:
    return otio.opentime.TimeRange(otio.opentime.RationalTime(start, rate), otio.opentime.RationalTime(count, rate))


def video(url: str = "media/a.mov", start: float = 86400, count: float = 200, rate: float = RATE) -> Any:
    return otio.schema.ExternalReference(target_url=url, available_range=span(start, count, rate))


def images(base: str = "media/", start_frame: int = 1001, **other: Any) -> Any:
    values = {"rate": RATE, "frame_zero_padding": 4, "available_range": span(0, 100), **other}
    return otio.schema.ImageSequenceReference(base, "sh010.", ".exr", start_frame, **values)


def clip(name: str, media: Any, shown: Any = None, **other: Any) -> Any:
    return otio.schema.Clip(name=name, media_reference=media, source_range=shown, **other)


def timeline(*clips: Any, name: str = "V1") -> Any:
    made = otio.schema.Timeline("edit")
    made.tracks.append(otio.schema.Track(name=name, children=list(clips), kind="Video"))
    return made


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(*clips: Any, whole: Any = None) -> Path:
        path = tmp_path / "edit.otio"
        otio.adapters.write_to_file(whole or timeline(*clips), str(path))
        return path

    return make


def refused(path: Path, name: str) -> str:
    with pytest.raises(ClientError) as caught:
        locate(f"{path}#{name}")
    assert "\n" not in caught.value.message
    return caught.value.message


# What a clip shows.


def test_video_clip_frames_count_from_the_file_start(write: Write, tmp_path: Path) -> None:
    media = locate(f"{write(clip('a', video(), span(86412, 48)))}#a")
    assert (media.path, media.frames) == (str(tmp_path / "media" / "a.mov"), (12, 59))


def test_a_clip_without_a_range_shows_all_of_its_media(write: Write) -> None:
    assert locate(f"{write(clip('a', video()))}#a").frames == (0, 199)


def test_a_clip_of_images_counts_as_the_files_do(write: Write, tmp_path: Path) -> None:
    media = locate(f"{write(clip('a', images(), span(10, 20)))}#a")
    assert (media.path, media.frames) == (str(tmp_path / "media" / "sh010.%04d.exr"), (1011, 1030))


def test_resolves_way_to_name_images_is_understood(write: Write, tmp_path: Path) -> None:
    media = locate(f"{write(clip('a', video('media/s.[0101-0140].dpx', count=40), span(86405, 10)))}#a")
    assert (media.path, media.frames) == (str(tmp_path / "media" / "s.%04d.dpx"), (106, 115))


def test_frames_under_a_dissolve_are_included(write: Write) -> None:
    dissolve = otio.schema.Transition(
        "d", "SMPTE_Dissolve", otio.opentime.RationalTime(5, RATE), otio.opentime.RationalTime(7, RATE)
    )
    path = write(clip("a", video(), span(86410, 20)), dissolve, clip("b", video(), span(86450, 20)))
    assert locate(f"{path}#a").frames == (10, 36)
    assert locate(f"{path}#b").frames == (45, 69)


def test_a_clip_in_nested_tracks_is_found(write: Write) -> None:
    inner = otio.schema.Stack("comp", children=[otio.schema.Track("plates", children=[clip("deep", video())])])
    whole = otio.schema.Timeline("edit")
    whole.tracks.append(otio.schema.Track("V1", children=[inner]))
    assert locate(f"{write(whole=whole)}#deep").frames == (0, 199)


def test_clip_frames_are_counted_at_the_media_rate(write: Write) -> None:
    path = write(clip("a", video(start=0, count=500, rate=50.0), span(100, 25, 25.0)))
    assert locate(f"{path}#a").frames == (200, 249)
    path = write(clip("a", video(start=0, count=500, rate=24.0), span(101, 25, 25.0)))
    assert "24" in refused(path, "a") and "25" in refused(path, "a")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("media/with space.mov", "media/with space.mov"),
        ("media/with%20space.mov", "media/with space.mov"),
        ("file:///abs/with%20space.mov", "/abs/with space.mov"),
        ("file://localhost/abs/a.mov", "/abs/a.mov"),
        ("../shots/a.mov", "../shots/a.mov"),
        ("/abs/a.mov", "/abs/a.mov"),
    ],
)
def test_addresses_of_media_become_paths(url: str, expected: str, write: Write, tmp_path: Path) -> None:
    path = Path(locate(f"{write(clip('a', video(url)))}#a").path)
    assert path == (tmp_path / expected).resolve()


# Names.


def test_clips_of_one_name_are_selected_by_track_or_count(write: Write) -> None:
    whole = timeline(clip("sh", video(), span(86400, 10)), clip("sh", video(), span(86420, 10)))
    whole.tracks.append(otio.schema.Track(name="V2", children=[clip("bg", video(), span(86430, 5))], kind="Video"))
    whole.tracks.append(otio.schema.Track(name="V3", children=[clip("bg", video(), span(86440, 5))], kind="Video"))
    path = write(whole=whole)
    assert "say which: 'sh@1' to 'sh@2'" in refused(path, "sh")
    assert "'V2/bg' or 'V3/bg'" in refused(path, "bg")
    assert locate(f"{path}#sh@2").frames == (20, 29)
    assert locate(f"{path}#V3/bg").frames == (40, 44)
    assert "there is no 'sh@3'" in refused(path, "sh@3")


def test_a_missing_name_lists_those_that_there_are(write: Write) -> None:
    path = write(clip("sh010", video()), clip("sh020", video()))
    assert "has no clip 'sh030'; it has 'sh010', 'sh020'" in refused(path, "sh030")
    assert "Name a clip" in refused(path, "")


# What cannot be done right.


def test_retimes_are_refused_wherever_they_are(write: Write) -> None:
    fast = otio.schema.LinearTimeWarp(time_scalar=2.0)
    assert "retimed" in refused(write(clip("a", video(), effects=[fast])), "a")
    assert "retimed" in refused(write(clip("a", video(), effects=[otio.schema.FreezeFrame()])), "a")
    whole = timeline(clip("a", video()))
    whole.tracks[0].effects.append(otio.schema.LinearTimeWarp(time_scalar=0.5))
    assert "retimed" in refused(write(whole=whole), "a")
    assert locate(f"{write(clip('a', video(), effects=[otio.schema.LinearTimeWarp(time_scalar=1.0)]))}#a")


@pytest.mark.parametrize(
    ("media", "says"),
    [
        (otio.schema.MissingReference(available_range=span(0, 10)), "relink"),
        (video(""), "relink"),
        (video("https://example.org/a.mov"), "no file of this machine"),
        (otio.schema.GeneratorReference(generator_kind="bars", available_range=span(0, 10)), "GeneratorReference"),
        (images(frame_step=2), "every 2th image"),
    ],
)
def test_media_that_cannot_be_read_is_refused(media: Any, says: str, write: Write) -> None:
    assert says in refused(write(clip("a", media)), "a")


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "cannot be read"), ("{}", "holds no timeline"), ("[1", "cannot be read"), (None, "There is no")],
)
def test_a_damaged_timeline_is_refused(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "edit.otio"
    if text is not None:
        path.write_text(text)
    assert says in refused(path, "a")


def test_other_kinds_of_timelines_are_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="convert it to .otio"):
        is_clip("edit.fcpxml#sh010")
    (tmp_path / "take#2.mov").write_bytes(b"")
    assert not is_clip(str(tmp_path / "take#2.mov"))
    assert not is_clip("shot.####.exr")


def test_deeply_nested_timeline_is_refused(tmp_path: Path) -> None:
    """200,000 stacks inside each other would overflow OpenTimelineIO's stack and end the process."""
    stack = '{"OTIO_SCHEMA": "Stack.1", "children": ['
    path = tmp_path / "deep.otio"
    path.write_text('{"OTIO_SCHEMA": "Timeline.1", "tracks": ' + stack * 200_000 + "]}" * 200_000 + "}")
    with pytest.raises(ClientError, match="is nested too deeply"):
        locate(f"{path}#a")


def test_media_unlike_the_timeline_is_refused(write: Write) -> None:
    media = locate(f"{write(clip('a', video()))}#a")
    check_rate(media, 24.0)
    check_rate(media, 0.0)
    with pytest.raises(ClientError, match="24 frames a second and the file has 25"):
        check_rate(media, 25.0)


# What comes out.


def test_result_is_the_active_media_reference(write: Write, tmp_path: Path) -> None:
    path = write(clip("a", images(), span(10, 20)), clip("b", video()))
    source = f"{path}#a"
    media = locate(source)
    out = tmp_path / "out" / "a_paint.%04d.exr"
    out.parent.mkdir()
    write_result(media, str(out), str(tmp_path / "result.otio"))
    result = otio.adapters.read_from_file(str(tmp_path / "result.otio"))
    edited, other = result.find_clips()
    assert edited.active_media_reference_key == "paintover"
    reference = edited.media_reference
    assert reference.target_url_for_image_number(0) == "out/a_paint.1011.exr"
    assert (reference.start_frame, reference.available_range) == (1011, span(10, 20))
    original = edited.media_references()["DEFAULT_MEDIA"]
    assert original.name_prefix == "sh010." and edited.source_range == span(10, 20)
    assert other.active_media_reference_key == "DEFAULT_MEDIA"
    again = locate(f"{tmp_path / 'result.otio'}#a")
    assert (again.path, again.frames) == (media.path, media.frames)  # a result's clip is painted on its plate


def test_a_result_elsewhere_still_finds_the_media(write: Write, tmp_path: Path) -> None:
    path = write(clip("a", video()), clip("b", images()))
    (tmp_path / "deliver").mkdir()
    target = tmp_path / "deliver" / "result.otio"
    write_result(locate(f"{path}#a"), str(tmp_path / "deliver" / "a.mov"), str(target))
    first, second = otio.adapters.read_from_file(str(target)).find_clips()
    assert first.media_reference.target_url == "a.mov"
    assert first.media_references()["DEFAULT_MEDIA"].target_url == (tmp_path / "media" / "a.mov").as_uri()
    assert locate(f"{target}#b").path == str(tmp_path / "media" / "sh010.%04d.exr")
    assert second.media_reference.target_url_base.endswith("/media/")


def test_outputs_are_named_after_timeline_and_clip(write: Write, tmp_path: Path) -> None:
    path = write(clip("a b", images()), clip("c", video()))
    images_out, result = result_paths(locate(f"{path}#a b"), str(tmp_path / "new.otio"))
    assert images_out == str(tmp_path / "new_a_b") and result == str(tmp_path / "new.otio")
    assert result_paths(locate(f"{path}#c"), str(tmp_path / "new.otio"))[0] == str(tmp_path / "new_c.mov")
    assert result_paths(locate(f"{path}#c"), str(tmp_path / "x.mkv"))[1] == str(tmp_path / "x.otio")
    with pytest.raises(ClientError, match="would replace the timeline"):
        result_paths(locate(f"{path}#c"), str(path))


def test_clip_result_is_added_to_the_timeline(
    paintover: Callable[..., Any], small_shot: SmallShot, tmp_path: Path
) -> None:
    media = otio.schema.ImageSequenceReference(
        "plate/", "", ".png", 0, rate=RATE, frame_zero_padding=5, available_range=span(0, 12)
    )
    otio.adapters.write_to_file(timeline(clip("sh010", media, span(2, 8))), str(tmp_path / "edit.otio"))
    key = f"{small_shot.key}={small_shot.keyframe}"
    ran = paintover("propagate", "edit.otio#sh010", "-k", key, "-o", "result.otio", "--json")
    assert ran.returncode == 0, ran.stderr
    events = {event["event"]: event for event in map(json.loads, ran.stdout.splitlines())}
    assert (events["clip"]["first"], events["clip"]["last"]) == (2, 9)
    assert events["timeline"]["path"] == str(tmp_path / "result.otio")
    edited = next(iter(otio.adapters.read_from_file(str(tmp_path / "result.otio")).find_clips())).media_reference
    for index in range(8):
        written = tmp_path / edited.target_url_for_image_number(index)
        plate = small_shot.plate(2 + index)
        assert np.any(cv2.imread(str(written)) != plate) and cv2.imread(str(written)).shape == plate.shape
    assert len(list((tmp_path / "result_sh010").glob("*.png"))) == 8
    again = paintover("propagate", "edit.otio#sh010", "-k", key, "-o", "result.otio")
    assert again.returncode == 2 and "result.otio is there already" in again.stderr
    for option in (["--range", "3-5"], ["--detach"]):
        assert paintover("propagate", "edit.otio#sh010", "-k", key, "-o", "n.otio", *option).returncode == 2
