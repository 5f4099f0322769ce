"""A real Chromium on the monitor's page, for tests. PAINTOVER_SCREENSHOTS=FOLDER keeps what it saw."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paintover.v1 import job_pb2

selenium = pytest.importorskip(
    "selenium", reason="SKIPPED: THE MONITOR'S PAGE IS NOT TESTED, SELENIUM IS NOT INSTALLED"
)
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402, F401
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402, F401
from selenium.webdriver.remote.webdriver import WebDriver  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SECONDS = 60.0
DESK = (1440, 900)

marks = [
    pytest.mark.retry("the page is drawn anew as jobs change, also between finding an element and reading it"),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="SKIPPED: THE MONITOR'S PAGE IS NOT TESTED, CHROMIUM AND CHROMEDRIVER ARE MISSING",
    ),
    pytest.mark.timeout(300),
]


def chromium() -> Iterator[WebDriver]:
    """A browser; the test fails where its console complained."""
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


def resize(browser: WebDriver, size: tuple[int, int], scheme: str = "dark", mobile: bool = False) -> None:
    """The window's size in CSS pixels, and the scheme that the system asks for."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
