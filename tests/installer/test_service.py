"""The templates that start the engine with a user's session are what their systems read."""

from __future__ import annotations

import configparser
import plistlib
import xml.etree.ElementTree as ET
from pathlib import Path

import paintover_bridge
import pytest
from click.testing import CliRunner
from paintover_bridge.cli.app import cli

SERVICE = Path(paintover_bridge.__file__).parent / "templates"


def systemd() -> list[str]:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(SERVICE / "paintover.service")
    assert unit["Install"]["WantedBy"] == "default.target"
    return unit["Service"]["ExecStart"].split()


def launchd() -> list[str]:
    job = plistlib.loads((SERVICE / "paintover.engine.plist").read_bytes())
    assert job["Label"] == "paintover.engine"
    return list(job["ProgramArguments"])


def windows() -> list[str]:
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    task = ET.parse(SERVICE / "paintover-task.xml").getroot()
    program, arguments = (task.findtext(f".//t:{name}", namespaces=space) for name in ("Command", "Arguments"))
    return [str(program), *str(arguments).split()]


@pytest.mark.parametrize("read", [systemd, launchd, windows])
def test_each_template_runs_a_command_that_there_is(read: object) -> None:
    program, *arguments = read()  # type: ignore[operator]
    assert program.replace("\\", "/").rpartition("/")[2].startswith("paintover")
    assert CliRunner().invoke(cli, [*arguments, "--help"]).exit_code == 0
