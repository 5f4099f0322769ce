"""Every platform's places, as pure functions of platform, user and environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from paintover_bridge import daemon
from paintover_local import places
from paintover_local.places import LINUX, MACOS, WINDOWS, Machine

HOMES = {LINUX: "/home/ann", MACOS: "/Users/ann", WINDOWS: "C:\\Users\\ann"}
WINDOWS_USER = {
    "APPDATA": "C:\\Users\\ann\\AppData\\Roaming",
    "LOCALAPPDATA": "C:\\Users\\ann\\AppData\\Local",
    "PROGRAMDATA": "C:\\ProgramData",
    "CommonProgramFiles": "C:\\Program Files\\Common Files",
}


def machine(system: str, all_users: bool = False, root: Path | None = None, **environment: str) -> Machine:
    given = {**(WINDOWS_USER if system == WINDOWS else {}), **environment}
    return Machine(system, HOMES[system], given, user_id=501, all_users=all_users, root=root)


@pytest.mark.parametrize(
    ("system", "all_users", "expected"),
    [
        (LINUX, False, "/home/ann/.local/share/DaVinciResolve/Fusion"),
        (LINUX, True, "/opt/resolve/Fusion"),
        (MACOS, False, "/Users/ann/Library/Application Support/Blackmagic Design/DaVinci Resolve/Fusion"),
        (MACOS, True, "/Library/Application Support/Blackmagic Design/DaVinci Resolve/Fusion"),
        (WINDOWS, False, r"C:\Users\ann\AppData\Roaming\Blackmagic Design\DaVinci Resolve\Support\Fusion"),
        (WINDOWS, True, r"C:\ProgramData\Blackmagic Design\DaVinci Resolve\Fusion"),
    ],
)
def test_resolve_scripts_are_in_the_fusion_folder(system: str, all_users: bool, expected: str) -> None:
    assert str(places.fusion_folder(machine(system, all_users))) == expected


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (LINUX, "/home/ann/.nuke"),
        (MACOS, "/Users/ann/.nuke"),
        (WINDOWS, r"C:\Users\ann\.nuke"),
    ],
)
def test_nuke_looks_in_the_users_own_folder(system: str, expected: str) -> None:
    assert str(places.nuke_folder(machine(system))) == expected
    assert str(places.nuke_folder(machine(system, all_users=True))) != expected


@pytest.mark.parametrize(
    ("system", "host", "folders", "found"),
    [
        (LINUX, "resolve", ["opt/resolve/bin/resolve"], "opt/resolve/bin/resolve"),
        (LINUX, "nuke", ["usr/local/Nuke9.0v8", "usr/local/Nuke15.1v3"], "usr/local/Nuke15.1v3"),
        (MACOS, "photoshop", ["Applications/Adobe Photoshop 2026"], "Applications/Adobe Photoshop 2026"),
        (WINDOWS, "nuke", ["C/Program Files/Nuke16.0v1"], "C/Program Files/Nuke16.0v1"),
        (WINDOWS, "resolve", [], None),
        (LINUX, "photoshop", ["Applications/Adobe Photoshop 2026"], None),
    ],
)
def test_hosts_are_found_where_they_install(
    system: str, host: str, folders: list[str], found: str | None, tmp_path: Path
) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    program = places.host_program(machine(system, root=tmp_path), host)
    assert program == (tmp_path / found if found else None)


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (LINUX, "/usr/OFX/Plugins"),
        (MACOS, "/Library/OFX/Plugins"),
        (WINDOWS, r"C:\Program Files\Common Files\OFX\Plugins"),
    ],
)
def test_openfx_bundles_lie_in_one_place_for_all_users(system: str, expected: str) -> None:
    assert str(places.ofx_folder(machine(system))) == expected


@pytest.mark.parametrize(
    ("system", "resolve", "nuke"),
    [
        (LINUX, "/home/ann/.local/share/DaVinciResolve/OFXPluginCacheV2.xml", "/var/tmp/nuke-u501/ofxplugincache"),
        (
            MACOS,
            "/Users/ann/Library/Application Support/Blackmagic Design/DaVinci Resolve/OFXPluginCacheV2.xml",
            "/var/tmp/nuke-u501/ofxplugincache",
        ),
        (
            WINDOWS,
            r"C:\Users\ann\AppData\Roaming\Blackmagic Design\DaVinci Resolve\Support\OFXPluginCacheV2.xml",
            r"C:\Users\ann\AppData\Local\Temp\nuke\ofxplugincache",
        ),
    ],
)
def test_the_hosts_memories_of_effects_are_known(system: str, resolve: str, nuke: str) -> None:
    assert [str(path) for path in places.ofx_caches(machine(system))] == [resolve, nuke]
    moved = places.ofx_caches(machine(system, NUKE_TEMP_DIR="/scratch" if system != WINDOWS else "D:\\scratch"))
    assert str(moved[1]).endswith("ofxplugincache") and "scratch" in str(moved[1])


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (LINUX, "/home/ann/.local/share/paintover"),
        (MACOS, "/Users/ann/Library/Application Support/paintover"),
        (WINDOWS, r"C:\Users\ann\AppData\Local\paintover"),
    ],
)
def test_the_data_folder_is_where_the_effect_looks(system: str, expected: str) -> None:
    assert str(places.data_folder(machine(system))) == expected


def test_this_machines_data_folder_is_the_daemons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAINTOVER_DATA", raising=False)
    this = Machine.this()
    assert this.real(places.data_folder(this)) == daemon.data_folder()


@pytest.mark.parametrize("system", [LINUX, MACOS, WINDOWS])
def test_a_root_holds_every_place(system: str, tmp_path: Path) -> None:
    fake = machine(system, root=tmp_path)
    for path in (
        places.fusion_folder(fake),
        places.nuke_folder(fake),
        places.ofx_folder(fake),
        places.data_folder(fake),
        *places.ofx_caches(fake),
        *places.service_files(fake).values(),
    ):
        real = fake.real(path)
        assert tmp_path in real.parents
        assert ":" not in str(real) and "\\" not in str(real)
        assert fake.real(real) == real  # already below it


def test_linux_has_no_photoshop() -> None:
    assert places.photoshop_installer(machine(LINUX)) is None
    assert str(places.photoshop_installer(machine(WINDOWS))).endswith("UnifiedPluginInstallerAgent.exe")
