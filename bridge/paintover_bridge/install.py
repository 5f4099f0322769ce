"""`paintover install` and `uninstall`: puts scripts, effect, panel and service where hosts and the system look."""

from __future__ import annotations

import io
import json
import os
import plistlib
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paintover_local import places
from paintover_local.places import LINUX, MACOS, WINDOWS, Machine
from paintover_local.processes import module_command

from paintover_bridge import daemon
from paintover_bridge.errors import FAILED, OK, ClientError, bad_input
from paintover_bridge.install_manifest import InstallManifest
from paintover_bridge.output import CommandOutput

TARGETS = ("resolve", "nuke", "photoshop", "krita", "gimp", "ofx", "service")
COMMAND = "command"
"""The target that every other one needs: the file that tells hosts how to start the command and the engine."""

BUNDLE = "Paintover.ofx.bundle"
_TEMPLATES = Path(__file__).parent / "templates"
_HOSTS = Path(__file__).parent / "hosts"
_TASK = "http://schemas.microsoft.com/windows/2004/02/mit/task"


_HOSTS_BY_TARGET = {
    "resolve": ("DaVinci Resolve", "start it, and look under Workspace > Scripts > Paintover."),
    "nuke": ("Nuke", "start it, and look for the menu Paintover."),
    "photoshop": ("Photoshop", "start it, and open Plugins > Paintover."),
    "krita": (
        "Krita",
        "start it, enable Paintover once under Settings > Configure Krita > Python Plugin Manager, start it again, and "
        "look under Tools > Scripts.",
    ),
    "gimp": ("GIMP", "start it, and look for File > Paint Over a Shot."),
}
"""What a target's host is called, and where what is installed shows there."""


class NotAvailable(Exception):
    """This machine cannot have the target; the message is a sentence."""


class InstallActions(Protocol):
    """The steps that an installation consists of: `InstallManifest` carries them out, `DryRun` prints them."""

    def write(self, target: str, path: Path, contents: bytes, mode: int = 0o644) -> None: ...

    def link(self, target: str, path: Path, to: str) -> None: ...

    def block(self, target: str, path: Path, text: str) -> None: ...

    def clear(self, target: str, path: Path) -> None: ...

    def run(self, target: str, command: Sequence[str], undo: Sequence[str]) -> str: ...


@dataclass(frozen=True)
class DryRun:
    """Prints the steps and carries none out."""

    output: CommandOutput

    def _report(self, target: str, action: str, path: str) -> None:
        self.output.event("step", {"target": target, "action": action, "path": path})
        self.output.say(f"{target}: would {action} {path}")

    def write(self, target: str, path: Path, contents: bytes, mode: int = 0o644) -> None:
        self._report(target, "replace" if path.exists() else "write", str(path))

    def link(self, target: str, path: Path, to: str) -> None:
        self._report(target, "link", f"{path} to {to}")

    def block(self, target: str, path: Path, text: str) -> None:
        self._report(target, "add marked lines to", str(path))

    def clear(self, target: str, path: Path) -> None:
        if os.path.lexists(path):
            self._report(target, "clear", str(path))

    def run(self, target: str, command: Sequence[str], undo: Sequence[str]) -> str:
        self._report(target, "run", " ".join(command))
        return ""


@dataclass(frozen=True)
class Installer:
    """Installs targets on a machine.

    data_folder: the engine's, as a path on this disk (below the machine's root, if it has one).
    bundle: the OpenFX bundle to install; None looks for it.
    """

    machine: Machine
    data_folder: Path
    output: CommandOutput
    bundle: Path | None = None

    @property
    def manifest_folder(self) -> Path:
        return self.data_folder / "install"

    def install(self, targets: Sequence[str], dry_run: bool) -> int:
        """Installs targets, or installs them again; returns the exit status.

        A target that fails is undone and reported; the others are installed nevertheless."""
        manifest = InstallManifest(self.manifest_folder)
        failed = False
        selected = [COMMAND, *targets]
        if not dry_run:
            self.output.notes(manifest.undo([target for target in selected if target in manifest.targets]))
        actions: InstallActions = DryRun(self.output) if dry_run else manifest
        for target in selected:
            failed |= not self._install_target(target, actions, manifest, alone=len(targets) == 1)
        if not dry_run and manifest.targets == [COMMAND]:
            list(manifest.undo([COMMAND]))
        if not dry_run:
            failed |= not self._check(manifest)
        return FAILED if failed else OK

    def _install_target(self, target: str, actions: InstallActions, manifest: InstallManifest, alone: bool) -> bool:
        """Installs one target; returns whether that succeeded. One that this machine cannot have fails only if it was
        named alone."""
        steps: Callable[[InstallActions], list[str]] = getattr(self, f"_{target}")
        try:
            notes = steps(actions)
        except (NotAvailable, OSError, ClientError) as error:
            if actions is manifest:
                self.output.notes(manifest.undo([target]))
            if isinstance(error, NotAvailable) and not alone:
                self.output.note(f"{target} is left out: {error}")
                return True
            self.output.error(_as_sentence(target, error))
            return False
        if target != COMMAND and actions is manifest:
            self.output.event("installed", {"target": target})
            self.output.say(f"{target} is installed.{self._next_step(target)}")
        self.output.notes(notes)
        return True

    def _next_step(self, target: str) -> str:
        """What was found of the target's host, and what to do there; begins with a space."""
        if target not in _HOSTS_BY_TARGET:
            return ""
        name, step = _HOSTS_BY_TARGET[target]
        program = places.host_program(self.machine, target)
        if program is None:
            return f" {name} was not found on this machine: what it needs waits for it."
        return f" {name} was found ({program}): {step}"

    def uninstall(self, targets: Sequence[str], dry_run: bool) -> int:
        """Removes targets; returns the exit status."""
        manifest = InstallManifest(self.manifest_folder)
        chosen = [target for target in targets if target in manifest.targets]
        for target in targets:
            if target not in manifest.targets and len(targets) < len(TARGETS):
                self.output.say(f"{target} is not installed.")
        if not manifest.targets:
            self.output.say("Nothing is installed.")
        if dry_run:
            for step in reversed(manifest.steps):
                if step.target in chosen:
                    self.output.event("step", {"target": step.target, "action": f"undo {step.kind}", "path": step.path})
                    self.output.say(f"{step.target}: would undo {step.kind} {step.path}")
            return OK
        try:
            self.output.notes(manifest.undo(chosen))
            if manifest.targets == [COMMAND]:
                self.output.notes(manifest.undo([COMMAND]))
        except OSError as error:
            self.output.error(_as_sentence("uninstall", error))
            return FAILED
        for target in chosen:
            self.output.event("uninstalled", {"target": target})
            self.output.say(f"{target} is taken out.")
        return OK

    def _check(self, manifest: InstallManifest) -> bool:
        from paintover_bridge.doctor import examine_installed

        whole = True
        for check in examine_installed(self.data_folder):
            whole &= check.ok
            if not check.ok:
                self.output.error(ClientError("DATA_LOSS", f"{check.name}: {check.found}; {check.remedy}."))
        return whole

    # The steps of each target; each returns notes for the user.

    def _command(self, actions: InstallActions) -> list[str]:
        engine = {"command": daemon.engine_command(), "cli": cli_command()}
        actions.write(COMMAND, self.data_folder / "service.json", (json.dumps(engine, indent=1) + "\n").encode())
        return []

    def _resolve(self, actions: InstallActions) -> list[str]:
        from paintover_bridge.hosts import resolve

        fusion = self.machine.real(places.fusion_folder(self.machine))
        runner = [*module_command("paintover_bridge.hosts.resolve"), *self._data_dir_option()]
        for path, text in resolve.files(fusion, self.data_folder, runner, self.machine.all_users).items():
            if path.name != "settings.lua" or not path.exists():  # the artist's settings are never replaced
                actions.write("resolve", path, text.encode())
        return []

    def _nuke(self, actions: InstallActions) -> list[str]:
        from paintover_bridge.hosts import nuke

        folder = self.machine.real(places.nuke_folder(self.machine))
        for path, text in nuke.files(folder, [*cli_command(), *self._data_dir_option()]).items():
            actions.write("nuke", path, text.encode())
        actions.block("nuke", folder / "init.py", f"import nuke\n{nuke.LINE}")
        everyone = f"Nuke finds this for every user once NUKE_PATH names {folder}."
        return [everyone] if self.machine.all_users else []

    def _photoshop(self, actions: InstallActions) -> list[str]:
        agent = places.photoshop_installer(self.machine)
        if agent is None:
            raise NotAvailable("there is no Photoshop for this system; `paintover paint` works with GIMP and Krita.")
        is_real = self.machine.root is None
        if is_real and not Path(str(agent)).exists():
            raise NotAvailable(f"Adobe's installer {agent} is not here; install Creative Cloud, then this again.")
        panel = _HOSTS / "photoshop" / "panel"
        package = self.manifest_folder / "paintover.ccx"
        actions.write("photoshop", package, ccx(panel))
        if is_real:
            name = json.loads((panel / "manifest.json").read_text("utf-8"))["id"]
            flag = "/" if self.machine.system == WINDOWS else "--"
            command, undo = ([str(agent), f"{flag}{verb}"] for verb in ("install", "remove"))
            if failure := actions.run("photoshop", [*command, str(package)], [*undo, name]):
                raise ClientError("FAILED_PRECONDITION", f"{failure}.")
        return []

    def _krita(self, actions: InstallActions) -> list[str]:
        from paintover_bridge.hosts.krita import installed

        self._refuse_all_users("Krita")
        folder = self.machine.real(places.krita_folder(self.machine))
        for path, text in installed.files(folder, [*cli_command(), *self._data_dir_option()]).items():
            actions.write("krita", path, text.encode())
        return []

    def _gimp(self, actions: InstallActions) -> list[str]:
        from paintover_bridge.hosts.gimp import installed

        self._refuse_all_users("GIMP")
        words = self._data_dir_option()
        for version in installed.VERSIONS:
            folder = self.machine.real(places.gimp_folder(self.machine, version))
            for path, (text, mode) in installed.files(folder, version, self.machine.system, words).items():
                actions.write("gimp", path, text.encode(), mode)
        return []

    def _refuse_all_users(self, host: str) -> None:
        if self.machine.all_users:
            raise NotAvailable(f"{host} looks for plug-ins in each user's own folder; leave out --all-users.")

    def _ofx(self, actions: InstallActions) -> list[str]:
        bundle = self._find_bundle()
        place = self.machine.real(places.ofx_folder(self.machine)) / BUNDLE
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                mode = file.stat().st_mode & 0o777
                actions.write("ofx", place / file.relative_to(bundle), file.read_bytes(), mode)
        for cache in places.ofx_caches(self.machine):
            actions.clear("ofx", self.machine.real(cache))
        return ["Hosts see the effect when they start next; in Resolve, enable it under Preferences > Video Plugins."]

    def _data_dir_option(self) -> list[str]:
        """The --data-dir option, for programs that would otherwise look in another folder."""
        usual = self.machine.real(places.data_folder(self.machine))
        named = "PAINTOVER_DATA" in self.machine.environment
        return ["--data-dir", str(self.data_folder)] if named or self.data_folder != usual else []

    def _find_bundle(self) -> Path:
        given = self.bundle or os.environ.get("PAINTOVER_OFX_BUNDLE")
        checkout = Path(__file__).resolve().parents[2] / "plugin_ofx" / "build" / BUNDLE
        bundle = Path(given) if given else checkout
        if not (bundle / "Contents").is_dir():
            if given:
                raise bad_input(f"{bundle} is no OpenFX bundle; name the folder {BUNDLE}.")
            raise NotAvailable("the OpenFX effect is not with this installation; name its bundle with --bundle.")
        return bundle

    def _service(self, actions: InstallActions) -> list[str]:
        words = [*cli_command(), *self._data_dir_option(), "serve"]
        files = places.service_files(self.machine)
        for name, place in files.items():
            if name != "link":
                path = (
                    self.data_folder / "install" / name if self.machine.system == WINDOWS else self.machine.real(place)
                )
                actions.write("service", path, service_file(name, words))
        if "link" in files:
            actions.link(
                "service", self.machine.real(files["link"]), str(self.machine.real(files["paintover.service"]))
            )
        if self.machine.root is None:
            for command, undo in _session_commands(self.machine, self.data_folder):
                failure = actions.run("service", command, undo)
                if failure:
                    return [f"The engine starts with your next session ({failure})."]
        return []


def cli_command() -> list[str]:
    """The command that runs `paintover` with this Python."""
    return module_command("paintover_bridge")


def service_file(name: str, command: Sequence[str]) -> bytes:
    """A service template, filled in with the command that it starts. name: a file of templates/."""
    template = (_TEMPLATES / name).read_bytes()
    if name.endswith(".service"):
        quoted = " ".join(_systemd_word(word) for word in command)
        lines = [line for line in template.decode().splitlines() if not line.startswith("#")]
        return "".join(
            f"ExecStart={quoted}\n" if line.startswith("ExecStart=") else f"{line}\n" for line in lines
        ).encode()
    if name.endswith(".plist"):
        job = plistlib.loads(template)
        job["ProgramArguments"] = list(command)
        return plistlib.dumps(job)
    ET.register_namespace("", _TASK)
    task = ET.fromstring(template)
    for tag, text in (("Command", command[0]), ("Arguments", " ".join(map(_windows_word, command[1:])))):
        found = task.find(f".//{{{_TASK}}}{tag}")
        assert found is not None
        found.text = text
    written: bytes = ET.tostring(task, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + written


def _systemd_word(word: str) -> str:
    """A quoted argument of ExecStart, in which systemd expands %, $ and backslashes."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(letter.isspace() for letter in word) else word


def _windows_word(word: str) -> str:
    return f'"{word}"' if " " in word else word


def _session_commands(machine: Machine, data_folder: Path) -> list[tuple[list[str], list[str]]]:
    """The commands that start the engine's service in the user's session now, each with the one that reverses it."""
    if machine.system == LINUX:
        control = ["systemctl", "--user"]
        return [
            ([*control, "daemon-reload"], [*control, "daemon-reload"]),
            ([*control, "start", "paintover.service"], [*control, "stop", "paintover.service"]),
        ]
    if machine.system == MACOS:
        plist = str(places.service_files(machine)["paintover.engine.plist"])
        session = f"gui/{machine.user_id}"
        bootout = ["launchctl", "bootout", f"{session}/paintover.engine"]
        return [(["launchctl", "bootstrap", session, plist], bootout)]
    task = str(data_folder / "install" / "paintover-task.xml")
    return [
        (
            ["schtasks", "/Create", "/TN", "Paintover", "/XML", task, "/F"],
            ["schtasks", "/Delete", "/TN", "Paintover", "/F"],
        ),
        (["schtasks", "/Run", "/TN", "Paintover"], []),
    ]


def ccx(panel: Path) -> bytes:
    """A panel's folder as the .ccx package of Adobe's installer: a zip, byte for byte the same for the same files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
        for file in sorted(panel.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                entry = zipfile.ZipInfo(file.relative_to(panel).as_posix(), (2020, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                package.writestr(entry, file.read_bytes())
    return packed.getvalue()


def _as_sentence(target: str, error: Exception) -> ClientError:
    if isinstance(error, ClientError):
        return error
    if isinstance(error, NotAvailable):
        return ClientError("FAILED_PRECONDITION", f"{target} cannot be installed: {error}")
    assert isinstance(error, OSError)
    if isinstance(error, PermissionError):
        how = "as administrator" if os.name == "nt" else "with sudo"
        return ClientError(
            "PERMISSION_DENIED",
            f"{target}: {error.filename} may not be written by this user; run `paintover install {target}` {how}.",
        )
    return ClientError(
        "FAILED_PRECONDITION", f"{target}: {error.strerror or error} ({error.filename}); mend that first."
    )


def choose_targets(names: Sequence[str]) -> list[str]:
    """The targets that the command line names; all of them for "all" and for none. Raises ClientError for an unknown
    name."""
    for name in names:
        if name not in (*TARGETS, "all"):
            raise bad_input(f"There is no '{name}' to install; choose from {', '.join(TARGETS)}, all.")
    return list(TARGETS) if "all" in names or not names else list(dict.fromkeys(names))
