"""The UXP panel in Node, against a stand-in of Photoshop's modules and a real engine; and the engine's side of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paintover_bridge.client import Client, connect
from paintover_bridge.hosts import photoshop
from paintover_local.pictures import keyframe_picture
from PIL import Image
from psd_tools import PSDImage

from tests.conftest import SmallShot, make_small_shot
from tests.journeys.page import chromium, fits, keep, resize

NODE = shutil.which("node")
SCENARIOS = Path(__file__).with_name("scenarios.js")
needs_node = pytest.mark.skipif(NODE is None, reason="SKIPPED: PHOTOSHOP'S PANEL IS NOT TESTED, node IS MISSING")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def engine(home: Path) -> Iterator[Client]:
    """An engine on the folder that the panel looks in, whose monitor was opened once."""
    with connect(data_folder(home), ephemeral=False) as client:
        client.open_monitor()
        yield client
        client.stop_engine(when_idle=False)


@pytest.fixture(scope="module")
def shot(engine: Client, tmp_path_factory: pytest.TempPathFactory) -> SmallShot:
    """A shot that was painted at frame 4 once, and not carried through."""
    made = make_small_shot(tmp_path_factory.mktemp("sh010") / "sh010")
    name = engine.create_shot(made.source).name
    engine.put_keyframe(name, made.key, made.keyframe)
    return made


@pytest.fixture
def painted(shot: SmallShot, tmp_path: Path) -> Path:
    """What an artist saves: other paint than the keyframe's, flattened."""
    picture = cv2.cvtColor(shot.plate(shot.key), cv2.COLOR_BGR2RGB)
    cv2.circle(picture, (40, 30), 9, (30, 200, 60), -1)
    path = tmp_path / "painted.psd"
    PSDImage.frompil(Image.fromarray(picture)).save(path)
    return path


def data_folder(home: Path) -> Path:
    """Where the panel looks on macOS."""
    return home / "Library" / "Application Support" / "paintover"


def play(scenario: str, home: Path, painted: Path | str = "", **environment: str) -> None:
    done = subprocess.run(
        [str(NODE), str(SCENARIOS), scenario, str(photoshop.PANEL), str(home), str(painted)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


@needs_node
def test_it_lists_shots_and_opens_a_keyframe(shot: SmallShot, home: Path) -> None:
    play("lists_and_opens_a_keyframe", home)


@needs_node
def test_save_is_propagated_and_neighbours_are_shown(
    engine: Client, shot: SmallShot, painted: Path, home: Path
) -> None:
    before = {job.name for job in engine.list_jobs() if not job.spec.prepare_only}
    play("a_save_is_carried_through_and_its_neighbours_are_shown", home, painted)
    [made] = {job.name for job in engine.list_jobs() if not job.spec.prepare_only} - before
    [keyframe] = engine.get_job(made).spec.keyframes
    assert f"/keyframes/{shot.key}-" in keyframe


@needs_node
@pytest.mark.parametrize(
    "scenario",
    ["another_documents_save_is_nobodys_business", "a_broken_file_is_a_sentence",
     "a_dialog_that_stands_open_is_a_sentence", "a_panel_that_is_hidden_asks_nothing"],
)  # fmt: skip
def test_what_else_may_happen(shot: SmallShot, painted: Path, home: Path, scenario: str) -> None:
    play(scenario, home, painted)


@needs_node
def test_a_shot_is_opened_from_the_disk(shot: SmallShot, home: Path, tmp_path: Path) -> None:
    chosen = make_small_shot(tmp_path / "sh090", count=6, key=2).source / "00002.png"
    play("a_shot_is_opened_from_the_disk_and_painted", home, CHOSEN=str(chosen))


@needs_node
def test_a_frame_is_shown_large(shot: SmallShot, painted: Path, home: Path) -> None:
    play("a_frame_is_shown_large", home, painted)


THEMES = {
    "darkest": ("#323232", "#e3e3e3", "#4a4a4a"),
    "dark": ("#535353", "#f0f0f0", "#6a6a6a"),
    "light": ("#b8b8b8", "#1f1f1f", "#9a9a9a"),
    "lightest": ("#f0f0f0", "#2c2c2c", "#cfcfcf"),
}
"""Photoshop's themes: what it gives panels as background, text and border."""


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_readable_on_every_theme(theme: str, tmp_path: Path) -> None:
    style = (photoshop.PANEL / "style.css").read_text("utf-8")
    names = ("--uxp-host-background-color", "--uxp-host-text-color", "--uxp-host-border-color")
    variables = "; ".join(map(": ".join, zip(names, THEMES[theme], strict=True)))
    shown = """<p id="status">Open a frame, paint above the plate, and save.</p><button>Open a shot…</button>
      <div id="shots"><div class="shot"><div class="name">a_very_long_name_of_plates_without_a_space_v012/sh010.####.exr
      </div><div class="wrong">The keyframe is of another size than the shot.</div><div class="row"><input value="1001">
      <button>Paint this frame</button></div></div></div>"""
    page = tmp_path / "panel.html"
    page.write_text(f"<!doctype html><style>:root {{ {variables} }} {style}</style><body>{shown}", "utf-8")
    for browser in chromium():
        resize(browser, (240, 500))
        browser.get(page.as_uri())
        assert fits(browser)
        colour = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        background = browser.execute_script(colour, "body", "backgroundColor")
        texts = [browser.execute_script(colour, one, "color") for one in ("#status", ".name", ".wrong")]
        assert all(contrast(background, text) >= 4.5 for text in texts), theme
        keep(browser, f"panel-{theme}")


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio of two CSS colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@needs_node
def test_without_an_engine_it_says_what_to_start(tmp_path: Path) -> None:
    play("without_an_engine_it_says_what_to_start", tmp_path)
    folder = data_folder(tmp_path)
    folder.mkdir(parents=True)
    path = folder / "monitor.json"
    path.write_text('{"port": 0}')
    (folder / "token").write_text("x")
    play("without_an_engine_it_says_what_to_start", tmp_path)
    path.write_text('{"port": 9}')  # one that is gone
    play("without_an_engine_it_says_what_to_start", tmp_path)


@needs_node
def test_another_data_folder_can_be_chosen(engine: Client, shot: SmallShot, home: Path, tmp_path: Path) -> None:
    scenario = "another_data_folder_can_be_chosen_and_is_remembered"
    play(scenario, tmp_path / "elsewhere", CHOSEN=str(data_folder(home)))


@needs_node
def test_a_wrong_token_is_a_sentence(engine: Client, home: Path) -> None:
    token = data_folder(home) / "token"
    right = token.read_text()
    token.write_text("0" * 64)
    try:
        play("a_wrong_token_is_a_sentence", home)
    finally:
        token.write_text(right)


# The engine's side.


def ask(engine: Client, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    folder = engine.endpoint.folder
    port = json.loads((folder / "monitor.json").read_text())["port"]
    sent = {"Authorization": f"Bearer {(folder / 'token').read_text().strip()}", **headers}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), sent)
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    return answer.status, json.loads(told) if told[:1] in (b"{", b"[") else told


def first_shot(engine: Client) -> str:
    return str(ask(engine, "/shots")[1][-1]["id"])  # the newest come first


def test_a_save_outdates_the_one_before(engine: Client, shot: SmallShot, tmp_path: Path) -> None:
    path, saves = f"/shots/{first_shot(engine)}/frames/5", []
    for name, colour in (("first", (200, 60, 30)), ("second", (30, 60, 200))):
        picture = shot.plate(5)
        cv2.circle(picture, (40, 30), 9, colour, -1)
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        saves.append({"path": str(tmp_path / f"{name}.png")})
    status, first = ask(engine, path, saves[0])
    assert status == 200
    status, second = ask(engine, path, saves[1])
    assert status == 200 and second["job"] != first["job"]
    assert engine.wait_until_finished(f"jobs/{second['job']}", 60)
    assert [job.state for job in map(engine.get_job, (f"jobs/{first['job']}", f"jobs/{second['job']}"))] == [8, 6]
    assert ask(engine, path, saves[1])[1]["job"] == second["job"]


def test_the_pictures_are_those_of_the_command(engine: Client, shot: SmallShot) -> None:
    opened = ask(engine, f"/shots/{first_shot(engine)}/frames/7/open", {})[1]
    wire = engine.list_shots()[0]
    assert Path(opened["path"]) == keyframe_picture(engine.endpoint.folder, wire.source, 7)
    assert {"frame": 7, "path": opened["path"]} in ask(engine, "/shots")[1][-1]["pictures"]


@pytest.mark.parametrize("headers", [{"Authorization": ""}, {"Authorization": "Bearer x"}, {"Host": "evil.example"}])
def test_nobody_else_is_answered(engine: Client, shot: SmallShot, headers: dict[str, str]) -> None:
    opened = f"/shots/{first_shot(engine)}/frames/9/open"
    for path, body in (("/shots", None), (opened, {})):
        assert ask(engine, path, body, **headers)[0] in (401, 403, 421)
    assert list(engine.endpoint.folder.glob("paint/*/*_0009.psd")) == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/shots/{shot}/frames/4", {}, 400),
        ("/shots/{shot}/frames/4", {"path": 7}, 400),
        ("/shots/{shot}/frames/4", {"path": "/etc/passwd"}, 400),
        ("/shots/{shot}/frames/4", {"path": "relative.psd"}, 400),
        ("/shots/{shot}/frames/4", {"path": "/nowhere.psd"}, 404),
        ("/shots/{shot}/frames/99/open", {}, 400),
        ("/shots/000000000000/frames/4/open", {}, 404),
        ("/shots/../frames/4/open", {}, 404),
    ],
)
def test_a_wrong_question_is_one_sentence(
    engine: Client, shot: SmallShot, path: str, body: dict[str, Any], status: int
) -> None:
    answered, told = ask(engine, path.format(shot=first_shot(engine)), body)
    assert answered in (status, 400, 404)
    assert answered == 404 or told["message"].endswith(".")


def test_frame_image_is_jpeg_without_webp_support(engine: Client, shot: SmallShot) -> None:
    job = ask(engine, f"/shots/{first_shot(engine)}/frames/4", {"path": str(shot.keyframe)})[1]["job"]
    assert engine.wait_until_finished(f"jobs/{job}", 60)
    seen = [ask(engine, f"/jobs/{job}/result/4?side=160{kind}")[1] for kind in ("", "&as=jpeg", "&as=webp")]
    assert [picture[:3] for picture in seen] == [b"RIF", b"\xff\xd8\xff", b"RIF"]
    assert ask(engine, f"/jobs/{job}/matte/4?side=160&as=jpeg")[1][:3] == b"RIF"  # its alpha is what counts
    assert ask(engine, f"/jobs/{job}/result/4?side=160&as=gif")[0] == 400


# What is installed.


def test_the_manifest_names_what_is_there() -> None:
    manifest = json.loads((photoshop.PANEL / "manifest.json").read_text("utf-8"))
    assert manifest["manifestVersion"] == 5 and manifest["host"]["app"] == "PS"
    assert (photoshop.PANEL / manifest["main"]).is_file()
    for icon in [*manifest["icons"], *manifest["entrypoints"][0]["icons"]]:
        for scale, suffix in ((1, ""), (2, "@2x")):
            path = photoshop.PANEL / icon["path"].replace(".png", f"{suffix}.png")
            assert cv2.imread(str(path)).shape[:2] == (icon["height"] * scale, icon["width"] * scale)


def test_the_panel_uses_nothing_that_uxp_lacks() -> None:
    for path in photoshop.PANEL.glob("*.js"):
        text = path.read_text("utf-8")
        assert not re.search(r"dataset|getElementsByClassName|innerHTML|eval\(|canvas|\bcloseset\b", text), path
    page = (photoshop.PANEL / "index.html").read_text("utf-8")
    assert "data-" not in page and "style=" not in page and "onclick" not in page
