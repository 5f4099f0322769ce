"""The monitor's link on its way to the browser."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from paintover_bridge import browser

from tests.bridge.conftest import Run

LINK = "http://127.0.0.1:4321/open?link=secret"


def fake_program(folder: Path, name: str, code: str) -> Path:
    """A program of a few lines of Python."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name != "posix", reason="Windows shows command lines to their user alone")
def test_the_link_is_on_no_command_line(paintover: Run, folder: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    program = fake_program(tmp_path / "bin", "browser", f"import sys; open({str(given)!r}, 'w').write(sys.argv[1])")
    done = paintover("monitor", BROWSER=f"{program} %s")
    assert done.returncode == 0, done.stderr
    link = done.stdout.strip()
    assert "/open?link=" in link
    address = given.read_text()
    assert address.startswith("file:///") and "link=" not in address
    page = Path(unquote(urlsplit(address).path))
    assert page.parent == folder and link in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="snaps are Linux's")
@pytest.mark.parametrize(
    ("default", "place"),
    [("firefox_firefox.desktop", "home/snap/firefox/common"), ("firefox.desktop", "data"), ("other_x.desktop", "data")],
)
def test_the_page_lies_where_the_browser_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: str, place: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "home/snap/firefox/common").mkdir(parents=True)
    fake_program(tmp_path / "bin", "xdg-settings", f"print({default!r})")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    opened: list[str] = []
    monkeypatch.setattr(browser.webbrowser, "open", lambda address: opened.append(address) or True)
    assert browser.open_link(LINK, tmp_path / "data")
    assert opened == [(tmp_path / place / "monitor.html").as_uri()]
    assert LINK in (tmp_path / place / "monitor.html").read_text()
