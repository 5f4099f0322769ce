"""The monitor's page in a real Chromium: sizes, accessibility, keys, ways to look, and where a shot begins."""

from __future__ import annotations

import base64
import importlib.resources
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paintover.v1 import job_pb2, keyframe_pb2
from paintover_bridge.client import Client, connect

from tests.conftest import make_small_shot
from tests.journeys.page import (
    DESK,
    SECONDS,
    ActionChains,
    By,
    Keys,
    WebDriver,
    card,
    chromium,
    fits,
    keep,
    marks,
    press,
    resize,
    state,
    until,
)

pytestmark = marks
PHONE = (390, 844)
SIZES = [(360, 640), (844, 390), (1024, 768), (1920, 1080), (3840, 2160)]


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    yield from chromium()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("look")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAINTOVER_EDITOR", "none")
        with connect(folder / "data", ephemeral=False) as connected:
            yield connected
            connected.stop_engine(when_idle=False)


@pytest.fixture(scope="module")
def job(engine: Client, folder: Path) -> job_pb2.Job:
    small_shot = make_small_shot(folder / "sh010", count=24, key=10, width=320, height=180)
    shot = engine.create_shot(small_shot.source).name
    engine.put_keyframe(shot, small_shot.key, small_shot.keyframe)
    made = engine.create_job(shot, output=folder / "edited.mkv")
    assert engine.wait_until_finished(made.name, SECONDS)
    return engine.get_job(made.name)


@pytest.fixture
def viewer(engine: Client, job: job_pb2.Job, browser: WebDriver) -> Any:
    """The job's viewer, open on the keyframe."""
    resize(browser, DESK)
    browser.get(engine.open_monitor())
    until(lambda: card(browser, job).find_element(By.CSS_SELECTOR, ".title").click() or True)
    until(lambda: browser.execute_script("return document.querySelector('.picture.there .over')?.naturalWidth") == 320)
    return browser.find_element(By.ID, "viewer")


def box(browser: WebDriver, selector: str) -> dict[str, float]:
    script = "const box = document.querySelector(arguments[0]).getBoundingClientRect(); return box.toJSON()"
    return dict(browser.execute_script(script, selector))


def view(browser: WebDriver) -> str:
    return str(browser.find_element(By.CSS_SELECTOR, ".stage").get_attribute("data-view"))


def where(viewer: Any) -> str:
    return str(viewer.find_element(By.CSS_SELECTOR, ".look output").text)


def title(viewer: Any) -> str:
    """The name of the job that is shown."""
    number = str(viewer.find_element(By.CSS_SELECTOR, "h3 small").text).partition(" ")[0]
    return f"jobs/{number.removeprefix('#')}"


def type_key(browser: WebDriver, *keys: str) -> None:
    """Keys as typed, to whatever has the focus."""
    ActionChains(browser).send_keys(*keys).perform()


def complaints(browser: WebDriver) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    source = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    browser.execute_script(source)
    found = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [
        f"{wrong['id']}: {node['html'][:120]} {node['failureSummary']}"
        for wrong in found["violations"]
        for node in wrong["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_picture_is_large_and_whole_at_every_size(
    viewer: Any, browser: WebDriver, size: tuple[int, int], scheme: str
) -> None:
    resize(browser, size, scheme)
    time.sleep(0.3)
    assert fits(browser)
    stage, picture, panel = (box(browser, selector) for selector in (".stage", ".picture", "#viewer"))
    assert picture["height"] >= 0.25 * size[1] and picture["width"] >= 0.33 * min(size[0], 1280)
    assert picture["width"] / picture["height"] == pytest.approx(320 / 180, rel=0.01)
    for side in ("left", "top"):
        assert picture[side] >= stage[side] - 1 and stage[side] >= panel[side] - 1
    assert stage["bottom"] <= size[1] and picture["right"] <= stage["right"] + 1
    assert box(browser, ".plate") == box(browser, ".over")  # both cropped and placed alike
    assert box(browser, ".look .play")["bottom"] <= size[1]
    assert complaints(browser) == []
    keep(browser, f"look-{size[0]}x{size[1]}-{scheme}")


@pytest.mark.parametrize("size", [PHONE, DESK, SIZES[-1]], ids=["phone", "desk", "wall"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_fits_from_a_phone_to_a_wall(
    engine: Client, job: job_pb2.Job, browser: WebDriver, size: tuple[int, int], scheme: str
) -> None:
    resize(browser, size, scheme, mobile=size is PHONE)
    browser.get(engine.open_monitor())
    until(lambda: card(browser, job).find_elements(By.CSS_SELECTOR, ".after.shown"))
    assert fits(browser)
    keep(browser, f"{size[0]}-{scheme}")
    card(browser, job).find_element(By.CSS_SELECTOR, ".title").click()
    until(lambda: browser.execute_script("return document.querySelector('.stage .over').naturalWidth") > 0)
    assert fits(browser)
    keep(browser, f"{size[0]}-{scheme}-viewer")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_list_and_chooser_have_no_axe_complaints(
    engine: Client, job: job_pb2.Job, browser: WebDriver, scheme: str
) -> None:
    resize(browser, DESK, scheme)
    browser.get(engine.open_monitor())
    until(lambda: card(browser, job).find_elements(By.CSS_SELECTOR, ".after.shown"))
    time.sleep(0.8)  # pictures fade in
    assert complaints(browser) == []
    keep(browser, f"list-{scheme}")
    browser.find_element(By.ID, "new").click()
    until(lambda: browser.find_elements(By.CSS_SELECTOR, ".entries li"))
    assert complaints(browser) == []
    keep(browser, f"chooser-{scheme}")
    browser.execute_script("document.querySelector('.entries').append(document.createElement('button'))")
    assert "button-name" in "".join(complaints(browser))  # it does look


@pytest.mark.parametrize("focus", ["#search", "h1", '[aria-label="Frame"]', ".look .play button", ".about"])
def test_keys_work_wherever_the_focus_is(viewer: Any, browser: WebDriver, focus: str) -> None:
    if focus == "#search":  # a text that is typed takes letters; the page's own place takes the keys again
        browser.find_element(By.CSS_SELECTOR, focus).click()
        type_key(browser, "b")
        assert view(browser) == "wipe"
        browser.find_element(By.CSS_SELECTOR, focus).clear()
        focus = "body"
        browser.execute_script("document.activeElement.blur()")
    else:
        browser.execute_script("document.querySelector(arguments[0]).focus()", focus)
    assert where(viewer).startswith("frame 10 ")
    for key, frame in ((Keys.ARROW_RIGHT, 11), (Keys.ARROW_LEFT, 10), (Keys.END, 23), (Keys.HOME, 0)):
        type_key(browser, key)
        assert where(viewer).startswith(f"frame {frame} "), key
    for key, shown in (
        ("b", "after"),
        ("b", "before"),
        ("w", "wipe"),
        ("d", "difference"),
        ("m", "matte"),
        ("m", "wipe"),
    ):
        type_key(browser, key)
        assert view(browser) == shown, key
    type_key(browser, "?")
    assert "full screen" in viewer.text
    type_key(browser, "k")
    until(lambda: not where(viewer).startswith("frame 0 "))
    type_key(browser, "k")
    type_key(browser, Keys.ESCAPE)
    until(lambda: not viewer.is_displayed())


def test_picture_is_enlarged_to_its_pixels_and_moved(viewer: Any, browser: WebDriver) -> None:
    fitted = box(browser, ".picture")
    assert fitted["width"] > 330
    type_key(browser, "z")
    actual = box(browser, ".picture")
    assert (actual["width"], actual["height"]) == pytest.approx((320, 180), abs=0.5)
    type_key(browser, "z", "+", "+", "+")
    before = box(browser, ".picture")
    assert before["width"] > fitted["width"] * 1.9
    stage = viewer.find_element(By.CSS_SELECTOR, ".stage")
    type_key(browser, "b")
    ActionChains(browser).move_to_element(stage).click_and_hold().move_by_offset(-60, -20).release().perform()
    after = box(browser, ".picture")
    assert after["left"] == pytest.approx(before["left"] - 60, abs=1)
    assert box(browser, ".plate") == box(browser, ".over") or view(browser) == "after"
    type_key(browser, "z")
    assert box(browser, ".picture")["width"] == pytest.approx(fitted["width"], abs=1)
    type_key(browser, "f")
    until(lambda: browser.execute_script("return document.fullscreenElement?.id") == "viewer")
    assert box(browser, ".stage")["height"] > 0.7 * browser.execute_script("return innerHeight")
    keep(browser, "full-screen")
    type_key(browser, "f")
    until(lambda: not browser.execute_script("return document.fullscreenElement"))


def test_difference_and_matte_show_where_the_paint_is(viewer: Any, browser: WebDriver) -> None:
    for key, name in (("d", "difference"), ("m", "matte")):
        type_key(browser, key)
        until(
            lambda: browser.execute_script(
                "return [...document.querySelectorAll('.picture img:not([hidden])')].every(one => one.naturalWidth)"
            )
        )
        keep(browser, name)
        picture = viewer.find_element(By.CSS_SELECTOR, ".picture").screenshot_as_png
        import cv2
        import numpy as np

        pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
        height, width = pixels.shape
        assert pixels[height // 2, width // 2] > 100  # the disc in the middle
        assert pixels[height // 8, width // 8] < 40


def test_frame_is_corrected_by_drag_and_brush(
    engine: Client, job: job_pb2.Job, viewer: Any, browser: WebDriver
) -> None:
    """In frame 14, where the disc was carried to 152, 90."""
    type_key(browser, "c")
    assert "Frame 10 is painted" in browser.find_element(By.ID, "toast").text
    type_key(browser, *4 * [Keys.ARROW_RIGHT], "c")
    shown = box(browser, ".drawn")["width"] / 320

    def stroke(dx: int, dy: int) -> None:
        canvas = viewer.find_element(By.CSS_SELECTOR, ".drawn")
        mouse = ActionChains(browser).move_to_element_with_offset(canvas, round(-8 * shown), 0).click_and_hold()
        mouse.move_by_offset(round(dx * shown), round(dy * shown)).release().perform()

    stroke(20, -10)
    keep(browser, "correct-drag")
    press(viewer.find_element(By.CSS_SELECTOR, ".correct"), "Apply")
    first = until(lambda: title(viewer) != job.name and engine.get_job(title(viewer)))
    assert where(viewer).startswith("frame 14")
    (drag,) = [one for one in engine.list_keyframes(job.spec.shot, corrections=True) if one.drag]
    x, y, to_x, to_y = (getattr(drag.drag[0], name) for name in ("x", "y", "to_x", "to_y"))
    assert (x, y, to_x - x, to_y - y) == pytest.approx((152, 90, 20, -10), abs=1.5)
    until(lambda: engine.wait_until_finished(first.name, SECONDS))
    type_key(browser, Keys.ARROW_RIGHT, "c")
    bar = viewer.find_element(By.CSS_SELECTOR, ".correct")
    press(bar, "Draw the matte")
    until(lambda: viewer.find_element(By.CSS_SELECTOR, ".drawn").get_attribute("data-loaded") == "15")
    alpha = "return document.querySelector('.drawn').getContext('2d').getImageData(...arguments, 1, 1).data[3]"
    assert browser.execute_script(alpha, 170, 80) > 200  # where the disc was dragged to
    assert browser.execute_script(alpha, 20, 20) == 0
    press(bar, "Hold out")
    assert browser.execute_script(alpha, 170, 80) == 0
    stroke(40, 0)
    keep(browser, "correct-hold")
    type_key(browser, Keys.ENTER)
    made = until(lambda: title(viewer) not in (job.name, first.name) and engine.get_job(title(viewer)))
    assert engine.wait_until_finished(made.name, SECONDS)
    kinds = {one.name: (one.frame, one.kind) for one in engine.list_keyframes(job.spec.shot, corrections=True)}
    assert [kinds[name] for name in made.spec.corrections] == [
        (14, keyframe_pb2.KEYFRAME_KIND_DRAG),
        (15, keyframe_pb2.KEYFRAME_KIND_HOLDOUT),
    ]
    outputs = [Path(one.spec.output.path).name for one in (job, first, made)]
    assert outputs == ["edited.mkv", "edited_v001.mkv", "edited_v002.mkv"]
    for name in (first.name, made.name):
        engine.delete_job(name)


def test_results_of_a_shot_are_compared(engine: Client, job: job_pb2.Job, viewer: Any, browser: WebDriver) -> None:
    other = engine.create_job(job.spec.shot, parameters={"softness": "6"})
    assert engine.wait_until_finished(other.name, SECONDS)
    against = viewer.find_element(By.CSS_SELECTOR, '[aria-label="Compare with"]')
    until(lambda: against.is_displayed())
    number = other.name.removeprefix("jobs/")
    against.find_element(By.CSS_SELECTOR, f'option[value="{number}"]').click()
    source = "return document.querySelector('.plate').src"
    until(lambda: f"/jobs/{number}/result/10?" in browser.execute_script(source))
    assert viewer.find_element(By.CSS_SELECTOR, ".side.left").text.lower() == f"#{number}"
    against.find_element(By.CSS_SELECTOR, 'option[value=""]').click()
    until(lambda: f"/{job.name}/plate/10?" in browser.execute_script(source))
    engine.delete_job(other.name)


def test_engine_that_stopped_leaves_the_last_picture(
    browser: WebDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_shot = make_small_shot(tmp_path / "sh020")
    resize(browser, DESK)
    with connect(tmp_path / "data", ephemeral=False) as client:
        shot = client.create_shot(small_shot.source).name
        client.put_keyframe(shot, small_shot.key, small_shot.keyframe)
        made = client.create_job(shot)
        assert client.wait_until_finished(made.name, SECONDS)
        browser.get(client.open_monitor())
        until(lambda: card(browser, made).find_element(By.CSS_SELECTOR, ".title").click() or True)
        until(
            lambda: browser.execute_script("return document.querySelector('.picture.there .over')?.naturalWidth") == 96
        )
        os.kill(client.endpoint.pid, 9)
        until(lambda: browser.find_element(By.ID, "connection").is_displayed())
        assert "does not answer" in browser.find_element(By.ID, "connection").text
        type_key(browser, Keys.END)
        time.sleep(0.5)
        assert browser.execute_script("return document.querySelector('.over').naturalWidth") == 96
        assert browser.execute_script("return document.querySelector('.plate').naturalWidth") == 96
        client.get_engine()  # starts the next one
        until(lambda: not browser.find_element(By.ID, "connection").is_displayed())
        type_key(browser, Keys.HOME)
        until(lambda: "/0?" in browser.execute_script("return document.querySelector('.over').src"))
        client.stop_engine(when_idle=False)


def test_removed_jobs_come_back_by_undo(engine: Client, job: job_pb2.Job, browser: WebDriver) -> None:
    number = job.name.removeprefix("jobs/")
    resize(browser, DESK)
    browser.get(engine.open_monitor())
    search = browser.find_element(By.ID, "search")
    until(lambda: state(browser, job) == "done")
    search.send_keys("sh999")
    until(lambda: browser.find_element(By.ID, "nothing").is_displayed())
    search.clear()
    search.send_keys("plate draft done")
    until(lambda: state(browser, job) == "done")
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.BACKSPACE)
    for clicked in (lambda: press(card(browser, job), "Remove"), lambda: browser.find_element(By.ID, "clear").click()):
        until(lambda: state(browser, job) == "done")
        clicked()
        until(lambda: browser.find_element(By.ID, "empty").is_displayed())
        press(browser.find_element(By.ID, "toast"), "Undo")
        until(lambda: state(browser, job) == "done")
    assert [each.name for each in engine.list_jobs()] == [f"jobs/{number}"]


def test_a_shot_is_opened_scrubbed_and_painted(engine: Client, browser: WebDriver, folder: Path) -> None:
    small_shot = make_small_shot(folder / "new shot")
    resize(browser, DESK)
    browser.get(engine.open_monitor())
    browser.find_element(By.ID, "new").click()
    path = browser.find_element(By.CSS_SELECTOR, '[aria-label="Folder or clip"]')
    until(lambda: path.get_attribute("value"))
    path.clear()
    path.send_keys(str(small_shot.source.parent), Keys.ENTER)
    until(lambda: browser.find_element(By.CSS_SELECTOR, ".entry.folder").text.startswith("plate"))
    browser.find_element(By.CSS_SELECTOR, ".entry.folder").click()
    until(lambda: "[0-11].png" in browser.find_element(By.CSS_SELECTOR, ".entry.clip").text)
    keep(browser, "entries")
    browser.find_element(By.CSS_SELECTOR, ".entry.clip").click()
    until(lambda: browser.execute_script("return document.querySelector('img.frame').naturalWidth") == 96)
    browser.find_element(By.CSS_SELECTOR, '.clip [aria-label="Frame"]').send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    until(lambda: "frame 2 of 0–11" in browser.find_element(By.ID, "chooser").text)
    keep(browser, "scrubbed")
    press(browser.find_element(By.ID, "chooser"), "Paint this frame")
    until(lambda: ".psd in yours, paint, and save" in browser.find_element(By.ID, "toast").text)
    said = browser.find_element(By.ID, "toast").text
    assert Path(said.split("Open ")[1].split(" in yours")[0]).is_file()


DROP = """
const files = Object.entries(arguments[0]).map(([name, data]) =>
  new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name));
const transfer = new DataTransfer();
for (const file of files) transfer.items.add(file);
document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
"""


def test_dropped_pictures_become_a_shot(engine: Client, browser: WebDriver, tmp_path: Path) -> None:
    small_shot = make_small_shot(tmp_path, count=3, key=1)
    pictures = {path.name: base64.b64encode(path.read_bytes()).decode() for path in small_shot.source.iterdir()}
    browser.get(engine.open_monitor())
    browser.execute_script(DROP, {"notes.txt": ""})
    until(lambda: "'notes.txt' is no video" in browser.find_element(By.ID, "toast").text)
    # Logged after the page has shown it, maybe; and beside what an earlier test's engine left when it ended.
    until(lambda: any("status of 400" in line["message"] for line in browser.get_log("browser")))
    browser.execute_script(DROP, dict(list(pictures.items())[:1]))
    until(lambda: "One picture is no shot" in browser.find_element(By.ID, "toast").text)
    browser.execute_script(DROP, pictures)
    until(lambda: "frame 0 of 0–2" in browser.find_element(By.ID, "chooser").text)
    until(lambda: browser.execute_script("return document.querySelector('img.frame').naturalWidth") == 96)
    [shot] = [each for each in engine.list_shots() if "/dropped/" in each.source]
    kept = Path(shot.source).parent
    assert {path.name: base64.b64encode(path.read_bytes()).decode() for path in kept.iterdir()} == pictures
    engine.delete_shot(shot.name)
    assert not kept.exists()
