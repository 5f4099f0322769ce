"""A real Chromium goes with a job from its keyframe to its end. PAINTOVER_SCREENSHOTS=FOLDER keeps what it saw."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client, connect

from tests.conftest import SmallShot, make_small_shot

selenium = pytest.importorskip(
    "selenium", reason="SKIPPED: THE MONITOR'S PAGE IS NOT TESTED, SELENIUM IS NOT INSTALLED"
)
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SECONDS = 60.0
DESK, PHONE, WALL = (1440, 900), (390, 844), (3840, 2160)

pytestmark = [
    pytest.mark.retry("the page is drawn anew as jobs change, also between finding an element and reading it"),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="SKIPPED: THE MONITOR'S PAGE IS NOT TESTED, CHROMIUM AND CHROMEDRIVER ARE MISSING",
    ),
    pytest.mark.timeout(300),
]


@pytest.fixture
def slow(slow_methods: None, data_dir: Path) -> Iterator[Client]:
    with connect(data_dir, ephemeral=False) as connected:
        yield connected
        connected.stop_engine(when_idle=False)


@pytest.fixture
def browser() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_window_size(*DESK)
    yield driver
    complaints = [line for line in driver.get_log("browser") if "net::ERR" not in line["message"]
                  and "status of 404" not in line["message"]]  # fmt: skip
    driver.quit()
    assert complaints == []


@pytest.fixture
def shot(slow: Client, tmp_path: Path) -> str:
    small_shot = make_small_shot(tmp_path / "sh010", count=48, key=20, width=320, height=180)
    name = slow.create_shot(small_shot.source).name
    slow.put_keyframe(name, small_shot.key, small_shot.keyframe)
    return name


def until(true: Callable[[], Any], what: str = "") -> Any:
    end = time.monotonic() + SECONDS
    while True:
        try:
            if found := true():
                return found
        except Exception:
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, what
        time.sleep(0.05)


def card(browser: WebDriver, job: job_pb2.Job) -> Any:
    number = job.name.removeprefix("jobs/")
    return browser.find_element(By.CSS_SELECTOR, f'.card[data-job="{number}"]')


def state(browser: WebDriver, job: job_pb2.Job) -> str:
    return str(card(browser, job).find_element(By.CSS_SELECTOR, ".state").text)


def press(parent: Any, label: str) -> None:
    next(one for one in parent.find_elements(By.TAG_NAME, "button") if one.text == label).click()


def order(browser: WebDriver) -> list[int]:
    cards = browser.find_elements(By.CSS_SELECTOR, "#waiting .card")
    return [int(str(one.get_attribute("data-job"))) for one in cards]


def keep(browser: WebDriver, name: str) -> None:
    if folder := os.environ.get("PAINTOVER_SCREENSHOTS"):
        time.sleep(1.0)  # the last pictures fade in
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def fits(browser: WebDriver) -> bool:
    return bool(browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth"))


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
    wipe = browser.execute_script("return document.querySelector('.wipe').style.left")
    assert 5 < float(wipe.rstrip("%")) < 45
    press(viewer, "Matte")
    assert "matted" in str(stage.get_attribute("class"))
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
    assert list(slow.list_jobs()) == []
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


@pytest.mark.parametrize("size", [PHONE, DESK, WALL], ids=["phone", "desk", "wall"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_fits_from_a_phone_to_a_wall(
    client: Client, small_shot: SmallShot, browser: WebDriver, size: tuple[int, int], scheme: str
) -> None:
    shot = client.create_shot(small_shot.source).name
    client.put_keyframe(shot, small_shot.key, small_shot.keyframe)
    job = client.create_job(shot)
    assert client.wait_until_finished(job.name, SECONDS)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size is PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(client.open_monitor())
    until(lambda: card(browser, job).find_elements(By.CSS_SELECTOR, ".after.shown"))
    assert fits(browser)
    keep(browser, f"{size[0]}-{scheme}")
    card(browser, job).find_element(By.CSS_SELECTOR, ".title").click()
    until(lambda: browser.execute_script("return document.querySelector('.stage .over').naturalWidth") > 0)
    assert fits(browser)
    keep(browser, f"{size[0]}-{scheme}-viewer")


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
