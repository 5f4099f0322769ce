"""The editor that is asked for is the one that opens, with the picture as one word of its command."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

import pytest
from paintover_bridge.editors import choose
from paintover_bridge.errors import ClientError


def program(folder: Path, name: str) -> Path:
    """A program that writes down its arguments."""
    path = folder / name
    code = "import json, pathlib, sys; pathlib.Path(sys.argv[0] + '.said').write_text(json.dumps(sys.argv[1:]))"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return path


def said(path: Path) -> list[str]:
    record = path.with_name(path.name + ".said")
    for _ in range(200):
        if record.exists() and record.read_text():
            return list(json.loads(record.read_text()))
        time.sleep(0.05)
    raise AssertionError("the editor was not started")


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="starts scripts by their first line")


def test_hostile_file_name_reaches_no_shell(tmp_path: Path) -> None:
    picture = tmp_path / 'a "b" $(touch owned); `c`.psd'
    editor = choose(str(program(tmp_path, "my editor")), tmp_path)
    assert editor is not None
    editor.open(picture)
    assert said(tmp_path / "my editor") == [str(picture)]
    assert not (tmp_path / "owned").exists()


def test_a_command_line_says_where_the_picture_goes(tmp_path: Path) -> None:
    script = program(tmp_path, "wrap")
    editor = choose(f"{shlex.quote(str(script))} --open {{}} --new", tmp_path)
    assert editor is not None
    editor.open(Path("/p/k.psd"))
    assert said(script) == ["--open", "/p/k.psd", "--new"]


def test_editor_option_overrides_environment_and_setting(tmp_path: Path) -> None:
    one, two, three = (str(program(tmp_path, name)) for name in ("one", "two", "three"))
    (tmp_path / "settings.json").write_text(json.dumps({"editor": three}))
    environment = {"PAINTOVER_EDITOR": two}
    chosen = [choose(one, tmp_path, environment), choose(None, tmp_path, environment), choose(None, tmp_path, {})]
    assert [editor.name for editor in chosen if editor] == ["one", "two", "three"]


def test_none_opens_nothing(tmp_path: Path) -> None:
    assert choose("none", tmp_path) is None


def test_gimp_is_found_before_the_system_opener(tmp_path: Path) -> None:
    gimp = program(tmp_path, "gimp")
    environment = {"PATH": str(tmp_path)}
    for given in ("GIMP", None):
        editor = choose(given, tmp_path, environment)
        assert editor is not None and editor.command[0] == str(gimp)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("krita", "Krita was not found"),
        ("no-such-editor --x", "'no-such-editor --x' was not found"),
        ("'unclosed", "is no command line"),
    ],
)
def test_missing_editor_is_refused(given: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=says):
        choose(given, tmp_path, {"PATH": str(tmp_path)})


@pytest.mark.parametrize("text", ["{", '{"editor": 3}'])
def test_a_damaged_setting_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ClientError, match="settings.json"):
        choose(None, tmp_path, {})
