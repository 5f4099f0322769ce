"""Where hosts and systems look for what an installer brings. Pure functions of platform, user and environment; the
paths are those that the hosts' own pages name, gathered in docs/install.md."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

LINUX, MACOS, WINDOWS = "linux", "macos", "windows"
RESOLVE_MODULE = "paintover.lua"


def this_system() -> str:
    """The platform that this Python runs on."""
    return {"darwin": MACOS, "win32": WINDOWS}.get(sys.platform, LINUX)


@dataclass(frozen=True)
class Machine:
    """A platform, a user on it, and whether to install for that user or for all.

    root: a folder that stands for the whole disk; None: the disk.
    """

    system: str
    home: str
    environment: Mapping[str, str]
    user_id: int = 0
    all_users: bool = False
    root: Path | None = None

    @classmethod
    def this(cls, all_users: bool = False, root: Path | None = None) -> Machine:
        """The one that this runs on."""
        user_id = os.getuid() if hasattr(os, "getuid") else 0
        return cls(this_system(), os.path.expanduser("~"), os.environ, user_id, all_users, root)

    def path(self, *parts: str) -> PurePath:
        """A path of that platform."""
        return (PureWindowsPath if self.system == WINDOWS else PurePosixPath)(*parts)

    def at_home(self, *parts: str) -> PurePath:
        return self.path(self.home, *parts)

    def variable(self, name: str, *otherwise: str) -> PurePath:
        """What an environment variable names, else a folder of the user's."""
        given = self.environment.get(name)
        return self.path(given) if given else self.path(*otherwise)

    def real(self, path: PurePath) -> Path:
        """Where a path lies on this disk: below `root`, if there is one (and it does not already)."""
        if self.root is None or self.root in Path(str(path)).parents:
            return Path(str(path))
        drive = path.drive.rstrip(":")
        return self.root.joinpath(*filter(None, [drive, *path.parts[1 if path.anchor else 0 :]]))


def data_folder(machine: Machine) -> PurePath:
    """The engine's data folder, as the engine and the OpenFX effect find it."""
    given = machine.environment.get("PAINTOVER_DATA")
    if given:
        return machine.path(given)
    if machine.system == WINDOWS:
        return machine.variable("LOCALAPPDATA", machine.home, "AppData", "Local") / "paintover"
    if machine.system == MACOS:
        return machine.at_home("Library", "Application Support", "paintover")
    return machine.variable("XDG_DATA_HOME", machine.home, ".local", "share") / "paintover"


def fusion_folder(machine: Machine) -> PurePath:
    """DaVinci Resolve's Fusion folder, which holds Scripts."""
    resolve = ("Blackmagic Design", "DaVinci Resolve")
    if machine.system == WINDOWS:
        if machine.all_users:
            return machine.variable("PROGRAMDATA", "C:\\ProgramData").joinpath(*resolve, "Fusion")
        roaming = machine.variable("APPDATA", machine.home, "AppData", "Roaming")
        return roaming.joinpath(*resolve, "Support", "Fusion")
    if machine.system == MACOS:
        library = machine.path("/Library") if machine.all_users else machine.at_home("Library")
        return library.joinpath("Application Support", *resolve, "Fusion")
    if machine.all_users:
        return machine.path("/opt/resolve/Fusion")
    return machine.variable("XDG_DATA_HOME", machine.home, ".local", "share") / "DaVinciResolve" / "Fusion"


def resolve_mailbox(data_folder: Path) -> Path:
    """The folder in the engine's data through which Resolve's scripts and their runner exchange files."""
    return data_folder / "resolve"


def resolve_module(fusion: Path, data_folder: Path, all_users: bool = False) -> Path:
    """The file of the code that Resolve's menu scripts share, outside the folders that Resolve lists as menus.

    fusion: as `fusion_folder`."""
    return (fusion / "Modules" / "Lua" if all_users else resolve_mailbox(data_folder)) / RESOLVE_MODULE


def nuke_folder(machine: Machine) -> PurePath:
    """The user's .nuke; for all users a folder that NUKE_PATH must name."""
    if not machine.all_users:
        return machine.at_home(".nuke")
    if machine.system == WINDOWS:
        return machine.variable("PROGRAMDATA", "C:\\ProgramData") / "Paintover" / "nuke"
    if machine.system == MACOS:
        return machine.path("/Library/Application Support/Paintover/nuke")
    return machine.path("/usr/local/share/paintover/nuke")


def krita_folder(machine: Machine) -> PurePath:
    """The folder of the user's Python plug-ins for Krita."""
    if machine.system == WINDOWS:
        return machine.variable("APPDATA", machine.home, "AppData", "Roaming").joinpath("krita", "pykrita")
    if machine.system == MACOS:
        return machine.at_home("Library", "Application Support", "krita", "pykrita")
    return machine.variable("XDG_DATA_HOME", machine.home, ".local", "share").joinpath("krita", "pykrita")


def gimp_folder(machine: Machine, version: str) -> PurePath:
    """The folder of the user's own plug-ins, scripts and settings for a version of GIMP, "2.10" or "3.0"."""
    if machine.system == WINDOWS:
        return machine.variable("APPDATA", machine.home, "AppData", "Roaming").joinpath("GIMP", version)
    if machine.system == MACOS:
        return machine.at_home("Library", "Application Support", "GIMP", version)
    return machine.variable("XDG_CONFIG_HOME", machine.home, ".config").joinpath("GIMP", version)


def ofx_folder(machine: Machine) -> PurePath:
    """Where every host looks for OpenFX bundles; there is none of a user's own."""
    if machine.system == WINDOWS:
        common = machine.variable("CommonProgramFiles", "C:\\Program Files\\Common Files")
        return common / "OFX" / "Plugins"
    return machine.path("/Library/OFX/Plugins" if machine.system == MACOS else "/usr/OFX/Plugins")


def ofx_caches(machine: Machine) -> list[PurePath]:
    """Files and folders in which hosts remember which effects there are, so that a new or mended one is not seen."""
    resolve = ("Blackmagic Design", "DaVinci Resolve")
    if machine.system == WINDOWS:
        roaming = machine.variable("APPDATA", machine.home, "AppData", "Roaming")
        support = roaming.joinpath(*resolve, "Support")
        nuke = machine.variable("LOCALAPPDATA", machine.home, "AppData", "Local").joinpath("Temp", "nuke")
    elif machine.system == MACOS:
        support = machine.at_home("Library", "Application Support", *resolve)
        nuke = machine.path(f"/var/tmp/nuke-u{machine.user_id}")
    else:
        support = machine.variable("XDG_DATA_HOME", machine.home, ".local", "share") / "DaVinciResolve"
        nuke = machine.path(f"/var/tmp/nuke-u{machine.user_id}")
    if machine.environment.get("NUKE_TEMP_DIR"):
        nuke = machine.path(machine.environment["NUKE_TEMP_DIR"])
    return [support / "OFXPluginCacheV2.xml", nuke / "ofxplugincache"]


def service_files(machine: Machine) -> dict[str, PurePath]:
    """Where the user's session looks for the engine. By the templates' names; "link" turns a systemd unit on."""
    if machine.system == WINDOWS:
        return {"paintover-task.xml": data_folder(machine) / "install" / "paintover-task.xml"}
    if machine.system == MACOS:
        return {"paintover.engine.plist": machine.at_home("Library", "LaunchAgents", "paintover.engine.plist")}
    units = machine.variable("XDG_CONFIG_HOME", machine.home, ".config") / "systemd" / "user"
    return {
        "paintover.service": units / "paintover.service",
        "link": units / "default.target.wants" / "paintover.service",
    }


def host_program(machine: Machine, host: str) -> Path | None:
    """Where a host itself is installed on this disk, the newest of several; None where it is not found.

    host: "resolve", "nuke", "photoshop", "krita" or "gimp"."""
    programs = str(machine.variable("ProgramFiles", "C:\\Program Files"))
    patterns = {
        (LINUX, "resolve"): ("/opt/resolve/bin/resolve",),
        (LINUX, "nuke"): ("/usr/local/Nuke*", "/opt/Nuke*"),
        (LINUX, "krita"): ("/usr/bin/krita", "/usr/local/bin/krita"),
        (LINUX, "gimp"): ("/usr/bin/gimp", "/usr/local/bin/gimp"),
        (MACOS, "krita"): ("/Applications/krita.app",),
        (MACOS, "gimp"): ("/Applications/GIMP*.app",),
        (WINDOWS, "krita"): (f"{programs}\\Krita*",),
        (WINDOWS, "gimp"): (f"{programs}\\GIMP*",),
        (MACOS, "resolve"): (
            "/Applications/DaVinci Resolve*/DaVinci Resolve*.app",
            "/Applications/DaVinci Resolve*.app",
        ),
        (MACOS, "nuke"): ("/Applications/Nuke*",),
        (MACOS, "photoshop"): ("/Applications/Adobe Photoshop *",),
        (WINDOWS, "resolve"): (f"{programs}\\Blackmagic Design\\DaVinci Resolve\\Resolve.exe",),
        (WINDOWS, "nuke"): (f"{programs}\\Nuke*",),
        (WINDOWS, "photoshop"): (f"{programs}\\Adobe\\Adobe Photoshop *",),
    }
    for pattern in patterns.get((machine.system, host), ()):
        path = machine.path(pattern)
        folder, names = machine.real(machine.path(path.anchor)), path.parts[1:]
        found = sorted(folder.glob("/".join(names)), key=_by_number)
        if found:
            return found[-1]
    return None


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Orders names by the numbers in them: Nuke9.0v8 before Nuke15.1v3."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)]


def photoshop_installer(machine: Machine) -> PurePath | None:
    """Adobe's program that adds panels to Photoshop; None where there is no Photoshop."""
    below = ("Adobe", "Adobe Desktop Common", "RemoteComponents", "UPI", "UnifiedPluginInstallerAgent")
    if machine.system == WINDOWS:
        common = machine.variable("CommonProgramFiles", "C:\\Program Files\\Common Files")
        return common.joinpath(*below, "UnifiedPluginInstallerAgent.exe")
    if machine.system == MACOS:
        agent = machine.path("/Library/Application Support").joinpath(*below)
        return agent.joinpath("UnifiedPluginInstallerAgent.app", "Contents", "MacOS", "UnifiedPluginInstallerAgent")
    return None
