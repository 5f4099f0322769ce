"""What the page may see and start of this machine: folders inside the roots, clips in them, painting, the desktop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover_bridge.client import Client, connect
from paintover_engine.errors import PaintoverError
from paintover_engine.jobs.roots import AllowedRoots
from paintover_engine.service.monitor.folders import listing

from tests.conftest import SmallShot
from tests.engine.service.test_monitor import CHANGE, Browser, open_link


@pytest.fixture
def browser(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    monkeypatch.setenv("PAINTOVER_EDITOR", "none")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with connect(data_dir, ephemeral=False) as client:
        yield open_link(client.open_monitor())
        client.stop_engine(when_idle=False)


def send(browser: Browser, address: str, **body: object) -> tuple[int, dict[str, object]]:
    answer = browser.ask(address, "POST", json.dumps(body).encode(), **CHANGE)
    return answer.status, json.loads(answer.body)


def test_numbered_pictures_are_one_clip(tmp_path: Path) -> None:
    for name in (
        "a.0998.exr",
        "a.0999.exr",
        "a.1000.exr",
        "b1.png",
        "b10.png",
        "poster.png",
        "c7.png",
        "x.MOV",
        ".y.mov",
    ):
        (tmp_path / name).touch()
    (tmp_path / "Sub").mkdir()
    found = listing(str(tmp_path), AllowedRoots([]))
    assert found["folders"] == ["Sub"] and found["parent"] == str(tmp_path.parent)
    clips = {clip["name"]: (clip["source"], clip["frames"]) for clip in found["clips"]}
    assert clips == {
        "x.MOV": ("x.MOV", None),
        "a.[998-1000].exr": ("a.####.exr", 3),
        "b[1-10].png": ("b#.png", 2),
    }


def test_folders_outside_the_roots_are_not_shown(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "plates").mkdir(parents=True)
    roots = AllowedRoots([inside])
    assert listing("", roots)["path"] == str(inside)
    assert listing(str(inside), roots)["parent"] is None
    assert listing(str(inside / "plates"), roots)["parent"] == str(inside)
    for outside in (str(tmp_path), f"{inside}/../..", "/etc", "inside"):
        with pytest.raises(PaintoverError, match="outside the folders|not an absolute path"):
            listing(outside, roots)
    (inside / "way out").symlink_to("/etc")
    with pytest.raises(PaintoverError, match="outside the folders"):
        listing(str(inside / "way out"), roots)


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PaintoverError, match=r"The folder '.*none' cannot be read \(No such file"):
        listing(str(tmp_path / "none"), AllowedRoots([]))


def test_a_clip_becomes_a_shot_and_is_painted(browser: Browser, small_shot: SmallShot, data_dir: Path) -> None:
    status, shot = send(browser, "/shots", path=f"{small_shot.source}/#####.png")
    assert status == 200 and (shot["first"], shot["last"], shot["width"], shot["height"]) == (0, 11, 96, 64)
    picture = browser.ask(f"/shots/{shot['id']}/plate/3?side=640")
    assert picture.status == 200 and picture.body[8:12] == b"WEBP"
    assert browser.ask(f"/shots/{shot['id']}/plate/99?side=640").status == 404
    for _ in range(2):  # a second time opens it again
        status, opened = send(browser, f"/shots/{shot['id']}/frames/3/paint")
        assert status == 200 and opened["editor"] is None
        assert Path(str(opened["picture"])).is_file() and Path(str(opened["picture"])).is_relative_to(data_dir)
    assert send(browser, f"/shots/{shot['id']}/frames/99/paint")[0] == 409
    assert send(browser, "/shots", path="")[0] == send(browser, "/shots", path=7)[0] == 400
    status, told = send(browser, "/shots", path=str(small_shot.source / "nothing.mov"))
    assert status == 404 and str(told["message"]).endswith(".")


def test_results_are_shown_where_there_is_a_desktop(
    browser: Browser, data_dir: Path, small_shot: SmallShot, tmp_path: Path
) -> None:
    with connect(data_dir, start=False) as client:
        number = finished_job(client, small_shot, tmp_path / "out.mkv")
    for where in ("open", "reveal"):
        status, told = send(browser, f"/jobs/{number}/{where}")
        assert status == 409 and str(tmp_path / "out.mkv") in str(told["message"])
    (tmp_path / "out.mkv").unlink()
    assert send(browser, f"/jobs/{number}/open")[0] == 404
    assert browser.ask(f"/jobs/{number}/open", "POST", b"{}").status == 403  # of another page


def finished_job(client: Client, small_shot: SmallShot, output: Path) -> str:
    shot = client.create_shot(small_shot.source).name
    client.put_keyframe(shot, small_shot.key, small_shot.keyframe)
    job = client.create_job(shot, output=output)
    assert client.wait_until_finished(job.name, 60)
    return job.name.removeprefix("jobs/")
