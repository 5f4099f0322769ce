"""Makes the README's pictures from what `paintover demo` wrote.

python tools/pictures.py paintover-demo     writes docs/pictures/demo.png, demo.webp and tutorial-*
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from paintover_evaluation.demo import pick, read_video
from paintover_evaluation.scenes import DEMO
from paintover_evaluation.sheets import contact_sheet, side_by_side
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
SHEET = (6, 14, DEMO.keyframe, 71)
WIDTH, EVERY = 400, 2  # of each side of the moving picture in pixels; every n-th frame is shown


def moving_picture(folder: Path, path: Path) -> None:
    """The shot beside its result, as a WebP that plays by itself."""
    frames = []
    pairs = zip(read_video(folder / "shot.mp4"), read_video(folder / "edited.mp4"), strict=True)
    for number, (before, after) in enumerate(pairs):
        if number % EVERY == 0:
            both = Image.fromarray(side_by_side(before, after))
            frames.append(
                both.resize((2 * WIDTH, round(2 * WIDTH * both.height / both.width)), Image.Resampling.LANCZOS)
            )
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=1000 * EVERY // 24, loop=0, quality=60, method=6
    )


def tutorial_pictures(folder: Path) -> None:
    """The keyframe as it was, and painted."""
    plate = pick(folder / "shot.mp4", (DEMO.keyframe,))[DEMO.keyframe]
    painted = np.asarray(Image.open(folder / "keyframe.png").convert("RGB"))
    for name, picture in (("frame", plate), ("painted", painted)):
        Image.fromarray(picture).save(PICTURES / f"tutorial-{name}.jpg", quality=85)


def monitor_picture(folder: Path, path: Path) -> None:
    """The monitor's page with the demo's job open, in a real Chromium."""
    from paintover_bridge.client import connect
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,800", "--force-device-scale-factor=1"):
        options.add_argument(argument)
    with tempfile.TemporaryDirectory() as data, connect(data, ephemeral=False) as client:
        shot = client.create_shot(folder / "shot.mp4").name
        client.put_keyframe(shot, DEMO.keyframe, folder / "keyframe.png")
        job = client.create_job(shot).name
        client.wait_until_finished(job, 300)
        driver = webdriver.ChromeService(shutil.which("chromedriver"))
        browser = webdriver.Chrome(options=options, service=driver)
        try:
            browser.get(client.open_monitor())
            wait = WebDriverWait(browser, 30)
            wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".after.shown"))
            browser.find_element(By.CSS_SELECTOR, ".title").click()
            wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".picture.there"))
            time.sleep(2)  # the strip's pictures fade in
            browser.save_screenshot(str(path))
        finally:
            browser.quit()
            client.stop_engine(when_idle=False)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Makes the README's pictures from what `paintover demo` wrote.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    PICTURES.mkdir(exist_ok=True)
    rows = [(label, pick(folder / name, SHEET)) for label, name in (("plate", "shot.mp4"), ("result", "edited.mp4"))]
    sheet = Image.fromarray(contact_sheet(rows, SHEET, marked=(DEMO.keyframe,), width=1600))
    sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(PICTURES / "demo.png", optimize=True)
    moving_picture(folder, PICTURES / "demo.webp")
    tutorial_pictures(folder)
    monitor_picture(folder, PICTURES / "tutorial-monitor.png")


if __name__ == "__main__":
    main()
