"""A real Chromium goes with a job from its keyframe to its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client, connect

from tests.conftest import make_small_shot
from tests.journeys.page import (
    SECONDS,
    ActionChains,
    By,
    Keys,
    WebDriver,
    card,
    chromium,
    keep,
    marks,
    order,
    press,
    state,
    until,
)

pytestmark = marks


@pytest.fixture
def slow(slow_methods: None, data_dir: Path) -> Iterator[Client]:
    with connect(data_dir, ephemeral=False) as connected:
        yield connected
        connected.stop_engine(when_idle=False)


@pytest.fixture
def browser() -> Iterator[WebDriver]:
    yield from chromium()


@pytest.fixture
def shot(slow: Client, tmp_path: Path) -> str:
    small_shot = make_small_shot(tmp_path / "sh010", count=48, key=20, width=320, height=180)
    name = slow.create_shot(small_shot.source).name
    slow.put_keyframe(name, small_shot.key, small_shot.keyframe)
    return name


def test_a_jobs_whole_life(slow: Client, shot: str, browser: WebDriver, tmp_path: Path) -> None:
    browser.get(slow.open_monitor())
    assert browser.title == "Paintover"
    until(lambda: browser.find_element(By.ID, "empty").is_displayed())
    job = slow.create_job(shot, method="slow-draft", parameters={"stages": "12", "seconds": "0.5"},
                          output=tmp_path / "out.mkv")  # fmt: skip
    until(lambda: state(browser, job) == "running")
    until(lambda: len(card(browser, job).find_elements(By.CSS_SELECTOR, ".after.shown")) >= 2)
    cells = len(card(browser, job).find_elements(By.CSS_SELECTOR, ".cell"))
    assert len(card(browser, job).find_elements(By.CSS_SELECTOR, ".after")) < cells
    keep(browser, "running")
    press(card(browser, job), "Pause")
    until(lambda: state(browser, job) == "paused")
    assert slow.get_job(job.name).state == job_pb2.JOB_STATE_PAUSED
    press(card(browser, job), "Resume")
    until(lambda: state(browser, job) == "running")
    press(card(browser, job), "Cancel")
    until(lambda: state(browser, job) == "cancelled")
    press(card(browser, job), "Retry")
    until(lambda: state(browser, job) == "done")
    until(lambda: len(card(browser, job).find_elements(By.CSS_SELECTOR, ".after.shown")) == cells)
    assert (tmp_path / "out.mkv").is_file()

    card(browser, job).find_element(By.CSS_SELECTOR, ".title").send_keys(Keys.ENTER)
    viewer = browser.find_element(By.ID, "viewer")
    loaded = "return document.querySelector('.stage .over').naturalWidth"
    until(lambda: viewer.is_displayed() and browser.execute_script(loaded) == 320)
    until(lambda: "Paint this frame next:" in viewer.text)
    stage = viewer.find_element(By.CSS_SELECTOR, ".stage")
    ActionChains(browser).move_to_element(stage).click_and_hold().move_by_offset(-100, 0).release().perform()
    clip = browser.execute_script("return document.querySelector('.stage .over').style.clipPath")
    assert 5 < float(clip.split()[-1].rstrip("%)")) < 45
    press(viewer, "Matte")
    assert stage.get_attribute("data-view") == "matte"
    frame = viewer.find_element(By.CSS_SELECTOR, '[aria-label="Frame"]')
    before = int(str(frame.get_attribute("value")))
    frame.send_keys(Keys.ARROW_RIGHT)
    assert f"frame {before + 1} · confidence" in viewer.text
    press(viewer, "Play")
    until(lambda: int(str(frame.get_attribute("value"))) > before + 4)
    press(viewer, "Stop")
    keep(browser, "viewer")
    frame.send_keys(Keys.ESCAPE)
    until(lambda: not viewer.is_displayed())

    press(card(browser, job), "Remove")
    until(lambda: browser.find_element(By.ID, "empty").is_displayed())
    until(lambda: list(slow.list_jobs()) == [])  # a moment later: until then it can be undone
    assert (tmp_path / "out.mkv").is_file()


def test_the_order_is_changed_by_dragging_and_by_keys(slow: Client, shot: str, browser: WebDriver) -> None:
    slow.create_job(shot, method="slow-draft", parameters={"stages": "2", "seconds": "50"})
    jobs = [slow.create_job(shot, method="slow-draft", parameters={"seed": str(n)}) for n in range(3)]
    a, b, c = (int(job.name.removeprefix("jobs/")) for job in jobs)
    browser.get(slow.open_monitor())
    until(lambda: order(browser) == [a, b, c])
    until(lambda: card(browser, jobs[1]).find_elements(By.CSS_SELECTOR, ".title"))
    title = card(browser, jobs[1]).find_element(By.CSS_SELECTOR, ".title")
    title.send_keys(Keys.ALT, Keys.ARROW_UP)
    until(lambda: order(browser) == [b, a, c])
    assert browser.execute_script("return document.activeElement.closest('.card').dataset.job") == str(b)
    title.send_keys(Keys.ALT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    until(lambda: order(browser) == [a, c, b])
    until(lambda: card(browser, jobs[2]).find_elements(By.CSS_SELECTOR, ".grip"))
    ActionChains(browser).drag_and_drop(
        card(browser, jobs[2]).find_element(By.CSS_SELECTOR, ".grip"),
        card(browser, jobs[0]).find_element(By.CSS_SELECTOR, ".head"),
    ).perform()
    until(lambda: order(browser) == [c, a, b])
    queued = [int(job.name.removeprefix("jobs/")) for job in slow.list_jobs()]
    assert [number for number in queued if number in (a, b, c)] == [c, a, b]


def test_a_failure_is_told_in_words(slow: Client, shot: str, browser: WebDriver, tmp_path: Path) -> None:
    job = slow.create_job(
        shot, method="slow-draft",
        parameters={"fails": "9", "marks": str(tmp_path / "marks"), "code": "FAILED_PRECONDITION"},
    )  # fmt: skip
    assert slow.wait_until_finished(job.name, SECONDS)
    browser.get(slow.open_monitor())
    until(lambda: state(browser, job) == "failed")
    until(lambda: "The server of the plates does not answer." in card(browser, job).text)
    until(lambda: card(browser, job).find_element(By.CSS_SELECTOR, ".title").click() or True)
    viewer = browser.find_element(By.ID, "viewer")
    until(lambda: "Copy for support" in viewer.text)
    press(viewer, "Copy for support")
    until(lambda: browser.find_element(By.ID, "toast").is_displayed())
    keep(browser, "failed")


def test_the_page_goes_on_by_itself_after_the_daemon_died(slow: Client, shot: str, browser: WebDriver) -> None:
    job = slow.create_job(shot, method="slow-draft", parameters={"stages": "3", "seconds": "0.2"})
    browser.get(slow.open_monitor())
    until(lambda: state(browser, job))
    os.kill(slow.endpoint.pid, 9)
    until(lambda: browser.find_element(By.ID, "connection").is_displayed())
    slow.get_engine()  # starts the next one
    until(lambda: not browser.find_element(By.ID, "connection").is_displayed())
    until(lambda: state(browser, job) == "done")


def test_a_thousand_jobs_are_shown_at_once(slow: Client, shot: str, browser: WebDriver) -> None:
    slow.create_job(shot, method="slow-draft", parameters={"stages": "2", "seconds": "60"})
    for seed in range(999):
        slow.create_job(shot, method="slow-draft", parameters={"seed": str(seed)})
    browser.get(slow.open_monitor())
    until(lambda: len(order(browser)) == 60)
    assert "999 waiting" in browser.find_element(By.ID, "summary").text
    took = browser.execute_script(
        "const [first] = performance.getEntriesByType('navigation');"
        "return performance.getEntriesByName('drawn')[0].startTime - first.responseEnd"
    )
    print(f"1,000 jobs drawn {took:.0f} ms after the page")
