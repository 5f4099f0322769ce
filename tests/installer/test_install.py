"""What is installed can be taken out again, and leaves a disk byte for byte as it was."""

from __future__ import annotations

import io
import json
import os
import plistlib
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from paintover_bridge import daemon, install
from paintover_bridge.cli.app import cli
from paintover_bridge.doctor import examine_installed
from paintover_bridge.install import Installer, service_file
from paintover_bridge.install_manifest import InstallManifest
from paintover_bridge.output import CommandOutput
from paintover_local import places
from paintover_local.places import LINUX, MACOS, WINDOWS, Machine

INIT = b"# my tools\nimport os"  # without a last newline, as editors leave it
CACHE = b"<OFXPlugins/>\n"
HOMES = {LINUX: "/home/ann", MACOS: "/Users/ann", WINDOWS: "C:\\Users\\ann"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    contents = tmp_path / "built" / "Paintover.ofx.bundle" / "Contents"
    (contents / "Linux-x86-64").mkdir(parents=True)
    (contents / "Info.plist").write_text("<plist/>")
    (contents / "Linux-x86-64" / "Paintover.ofx").write_bytes(b"\x7fELF effect")
    (contents / "Linux-x86-64" / "Paintover.ofx").chmod(0o755)
    return contents.parent


class Disk:
    """A fake root with a user who has things of their own there."""

    def __init__(self, root: Path, system: str, bundle: Path) -> None:
        self.root = root
        self.machine = Machine(system, HOMES[system], {}, user_id=7, root=root)
        self.data = self.machine.real(places.data_folder(self.machine))
        self.nuke = self.machine.real(places.nuke_folder(self.machine))
        self.installer = Installer(self.machine, self.data, CommandOutput(as_json=True), bundle)
        self.nuke.mkdir(parents=True)
        (self.nuke / "init.py").write_bytes(INIT)
        (self.nuke / "init.py").chmod(0o640)
        (self.nuke / "menu.py").write_bytes(b"import mine\n")
        for cache in places.ofx_caches(self.machine)[:1]:
            self.machine.real(cache).parent.mkdir(parents=True)
            self.machine.real(cache).write_bytes(CACHE)

    def contents(self) -> dict[str, Any]:
        return {
            str(path.relative_to(self.root)): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
            for path in sorted(self.root.rglob("*"))
        }


@pytest.fixture(params=[LINUX, MACOS, WINDOWS])
def disk(request: pytest.FixtureRequest, tmp_path: Path, bundle: Path) -> Disk:
    return Disk(tmp_path / "root", request.param, bundle)


@pytest.fixture
def linux(tmp_path: Path, bundle: Path) -> Disk:
    return Disk(tmp_path / "root", LINUX, bundle)


ALL = list(install.TARGETS)


def test_install_and_uninstall_restore_the_disk(disk: Disk) -> None:
    before = disk.contents()
    assert disk.installer.install(ALL, dry_run=False) == 0
    installed = disk.contents()
    assert installed != before
    assert disk.installer.install(ALL, dry_run=False) == 0
    assert {name for name in disk.contents() if "/backup/" not in name} == {
        name for name in installed if "/backup/" not in name
    }
    assert disk.installer.uninstall(ALL, dry_run=False) == 0
    assert disk.contents() == before


@pytest.mark.parametrize("target", ALL)
def test_each_target_comes_and_goes_alone(target: str, disk: Disk) -> None:
    before = disk.contents()
    status = disk.installer.install([target], dry_run=False)
    if target == "photoshop" and disk.machine.system == LINUX:
        assert status == 1  # there is no Photoshop there
    else:
        assert status == 0 and disk.contents() != before
    assert disk.installer.uninstall([target], dry_run=False) == 0
    assert disk.contents() == before


def test_a_dry_run_names_every_file_and_touches_none(disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    before = disk.contents()
    assert disk.installer.install(ALL, dry_run=True) == 0
    assert disk.contents() == before
    said = capsys.readouterr().out
    disk.installer.install(ALL, dry_run=False)
    for name, (_, contents) in disk.contents().items():
        if contents is not None and name not in before and "/install/" not in name:
            assert json.dumps(str(disk.root / name))[1:-1] in said
    capsys.readouterr()
    disk.installer.uninstall(ALL, dry_run=True)
    assert "init.py" in capsys.readouterr().out
    assert (disk.nuke / "paintover").exists()


def test_nuke_init_keeps_its_own_lines(linux: Disk) -> None:
    linux.installer.install(["nuke"], dry_run=False)
    text = (linux.nuke / "init.py").read_bytes()
    assert text.startswith(INIT + b"\n# >>> paintover >>>\n") and b"pluginAddPath" in text
    assert (linux.nuke / "init.py").stat().st_mode & 0o777 == 0o640
    compile(text, "init.py", "exec")


def test_what_was_added_to_nukes_init_since_stays(linux: Disk) -> None:
    linux.installer.install(["nuke"], dry_run=False)
    with (linux.nuke / "init.py").open("ab") as file:
        file.write(b"print('mine')\n")
    linux.installer.install(["nuke"], dry_run=False)
    linux.installer.uninstall(["nuke"], dry_run=False)
    assert (linux.nuke / "init.py").read_bytes() == INIT + b"\nprint('mine')\n"


def test_a_file_that_somebody_changed_is_left_and_said(linux: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    linux.installer.install(["resolve"], dry_run=False)
    settings = linux.data / "resolve" / "settings.lua"
    settings.write_text("return { bring = 'track' }")
    linux.installer.install(["resolve"], dry_run=False)
    assert settings.read_text() == "return { bring = 'track' }"
    capsys.readouterr()
    linux.installer.uninstall(["resolve"], dry_run=False)
    assert settings.exists()
    assert list((linux.data / "resolve").iterdir()) == [settings]


def test_effect_caches_are_cleared_and_restored(linux: Disk) -> None:
    cache = linux.machine.real(places.ofx_caches(linux.machine)[0])
    linux.installer.install(["ofx"], dry_run=False)
    assert not cache.exists()
    cache.write_bytes(b"a host wrote this since, with the effect in it")
    linux.installer.uninstall(["ofx"], dry_run=False)
    assert cache.read_bytes() == CACHE


def test_the_effects_library_stays_a_program(linux: Disk) -> None:
    linux.installer.install(["ofx"], dry_run=False)
    library = linux.root / "usr/OFX/Plugins/Paintover.ofx.bundle/Contents/Linux-x86-64/Paintover.ofx"
    assert library.stat().st_mode & 0o777 == 0o755


def test_pycache_is_removed_with_its_folder(linux: Disk) -> None:
    before = linux.contents()
    linux.installer.install(["nuke"], dry_run=False)
    for folder in [path for path in (linux.nuke / "paintover").rglob("*") if path.is_dir()]:
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "x.pyc").write_bytes(b"")
    linux.installer.uninstall(["nuke"], dry_run=False)
    assert linux.contents() == before


def test_failed_target_is_undone_and_others_installed(
    linux: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = linux.contents()
    write, calls = InstallManifest.write, 0

    def failing(self: InstallManifest, target: str, path: Path, *rest: Any) -> None:
        nonlocal calls
        calls += target == "nuke"
        if calls == 4 and target == "nuke":
            raise PermissionError(13, "Permission denied", str(path))
        write(self, target, path, *rest)

    monkeypatch.setattr(InstallManifest, "write", failing)
    assert linux.installer.install(["nuke", "ofx"], dry_run=False) == 1
    assert "nuke: " in capsys.readouterr().err
    assert not (linux.nuke / "paintover").exists()
    assert InstallManifest(linux.installer.manifest_folder).targets == ["command", "ofx"]
    linux.installer.uninstall(ALL, dry_run=False)
    assert linux.contents() == before


def test_a_place_that_may_not_be_written_is_a_sentence(linux: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    (linux.root / "usr").write_bytes(b"")  # no folder can be made there, not even by root
    assert linux.installer.install(["ofx"], dry_run=False) == 1
    assert InstallManifest(linux.installer.manifest_folder).targets == []


def test_the_effect_is_told_how_to_start_the_engine(linux: Disk) -> None:
    linux.installer.install(["nuke"], dry_run=False)
    said = json.loads((linux.data / "service.json").read_text())
    assert said["command"] == daemon.engine_command()
    ran = subprocess.run([*said["cli"], "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("paintover ")


def test_doctor_sees_what_was_taken_away(linux: Disk) -> None:
    linux.installer.install(["nuke"], dry_run=False)
    assert [check.ok for check in examine_installed(linux.data)] == [True] * 3
    (linux.nuke / "paintover" / "menu.py").unlink()
    broken = [check for check in examine_installed(linux.data) if not check.ok]
    assert [check.name for check in broken] == ["installed nuke"]
    assert "menu.py" in broken[0].found and "paintover install nuke" in broken[0].remedy
    linux.installer.install(["nuke"], dry_run=False)
    assert all(check.ok for check in examine_installed(linux.data))


def test_panel_is_packed_for_adobes_installer(tmp_path: Path, bundle: Path) -> None:
    disk = Disk(tmp_path / "mac", MACOS, bundle)
    assert disk.installer.install(["photoshop"], dry_run=False) == 0
    package = zipfile.ZipFile(io.BytesIO((disk.data / "install" / "paintover.ccx").read_bytes()))
    assert json.loads(package.read("manifest.json"))["manifestVersion"] == 5


# The service.

COMMAND = ["/opt/my python/bin/python3", "-m", "paintover_bridge", "serve", "--data-dir", "/d/100% $HOME"]


def test_systemd_starts_the_command_as_it_is() -> None:
    (line,) = [
        line for line in service_file("paintover.service", COMMAND).decode().splitlines() if "ExecStart=" in line
    ]
    expected = '"/opt/my python/bin/python3" -m paintover_bridge serve --data-dir "/d/100%% $$HOME"'
    assert line == f"ExecStart={expected}"


def test_launchd_starts_the_command_as_it_is() -> None:
    assert plistlib.loads(service_file("paintover.engine.plist", COMMAND))["ProgramArguments"] == COMMAND


def test_windows_starts_the_command_as_it_is() -> None:
    task = ET.fromstring(service_file("paintover-task.xml", COMMAND))
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.findtext(".//t:Command", namespaces=space) == COMMAND[0]
    assert task.findtext(".//t:Arguments", namespaces=space) == '-m paintover_bridge serve --data-dir "/d/100% $HOME"'


@pytest.mark.skipif(not os.path.exists("/usr/bin/systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_itself_reads_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "paintover.service"
    unit.write_bytes(service_file("paintover.service", [sys.executable, "-m", "paintover_bridge", "serve"]))
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--user", unit],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stderr


# The command.


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=True)


def test_command_installs_and_uninstalls_in_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAINTOVER_DATA", raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    root = tmp_path / "root"
    said = invoke("install", "nuke", "service", "--root", str(root))
    assert (said.exception, said.return_value) == (None, 0)
    assert "nuke is installed." in said.output
    assert (root / "home/ann/.nuke/paintover/menu.py").exists()
    unit = root / "home/ann/.config/systemd/user"
    if sys.platform.startswith("linux"):
        assert (unit / "default.target.wants/paintover.service").resolve() == unit / "paintover.service"
    invoke("uninstall", "--root", str(root))
    assert list(root.rglob("*")) == []


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_an_unknown_target_is_named(command: str, tmp_path: Path) -> None:
    said = invoke(command, "nuk", "--root", str(tmp_path))
    assert "There is no 'nuk' to install" in str(said.exception)
