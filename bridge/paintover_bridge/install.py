"""`paintover install` and `uninstall`: scripts, effect, panel and service where hosts and the system look for them."""

from __future__ import annotations

import io
import json
import os
import plistlib
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paintover_local import places
from paintover_local.places import LINUX, MACOS, WINDOWS, Machine

from paintover_bridge import daemon
from paintover_bridge.errors import FAILED, OK, ClientError, bad_input
from paintover_bridge.output import Output
from paintover_bridge.receipt import Receipt

TARGETS = ("resolve", "nuke", "photoshop", "ofx", "service")
COMMAND = "command"
"""What is installed with any target: how hosts start the command and the engine."""

BUNDLE = "Paintover.ofx.bundle"
_TEMPLATES = Path(__file__).parent / "templates"
_HOSTS = Path(__file__).parent / "hosts"
_TASK = "http://schemas.microsoft.com/windows/2004/02/mit/task"


class NotHere(Exception):
    """A target that this machine cannot have; a sentence."""


class Hand(Protocol):
    """What carries the steps of an installation out, or only says them."""

    def write(self, target: str, path: Path, contents: bytes, mode: int = 0o644) -> None: ...

    def link(self, target: str, path: Path, to: str) -> None: ...

    def block(self, target: str, path: Path, text: str) -> None: ...

    def clear(self, target: str, path: Path) -> None: ...

    def run(self, target: str, command: Sequence[str], undo: Sequence[str]) -> str: ...


@dataclass(frozen=True)
class Says:
    """Says what would be done; does nothing."""

    output: Output

    def _say(self, target: str, action: str, path: str) -> None:
        self.output.event("step", {"target": target, "action": action, "path": path})
        self.output.say(f"{target}: would {action} {path}")

    def write(self, target: str, path: Path, contents: bytes, mode: int = 0o644) -> None:
        self._say(target, "replace" if path.exists() else "write", str(path))

    def link(self, target: str, path: Path, to: str) -> None:
        self._say(target, "link", f"{path} to {to}")

    def block(self, target: str, path: Path, text: str) -> None:
        self._say(target, "add marked lines to", str(path))

    def clear(self, target: str, path: Path) -> None:
        if os.path.lexists(path):
            self._say(target, "clear", str(path))

    def run(self, target: str, command: Sequence[str], undo: Sequence[str]) -> str:
        self._say(target, "run", " ".join(command))
        return ""


@dataclass(frozen=True)
class Installer:
    """Installs on a machine. data_folder: of the engine, as this machine's disk has it."""

    machine: Machine
    data_folder: Path
    output: Output
    bundle: Path | None = None

    @property
    def receipt_folder(self) -> Path:
        return self.data_folder / "install"

    def install(self, targets: Sequence[str], dry_run: bool) -> int:
        """Installs targets, or installs them anew; returns the exit status.

        What fails is undone and said, and the others are installed nevertheless."""
        kept = Receipt(self.receipt_folder)
        failed = False
        asked = [COMMAND, *targets]
        if not dry_run:
            self.output.notes(kept.undo([target for target in asked if target in kept.targets]))
        hand: Hand = Says(self.output) if dry_run else kept
        for target in asked:
            failed |= not self._do(target, hand, kept, alone=len(targets) == 1)
        if not dry_run and kept.targets == [COMMAND]:
            list(kept.undo([COMMAND]))
        if not dry_run:
            failed |= not self._check(kept)
        return FAILED if failed else OK

    def _do(self, target: str, hand: Hand, kept: Receipt, alone: bool) -> bool:
        """Installs a target; whether that went well. One that this machine cannot have is none that was asked for by
        "all"."""
        steps: Callable[[Hand], list[str]] = getattr(self, f"_{target}")
        try:
            notes = steps(hand)
        except (NotHere, OSError, ClientError) as error:
            if hand is kept:
                self.output.notes(kept.undo([target]))
            if isinstance(error, NotHere) and not alone:
                self.output.note(f"{target} is left out: {error}")
                return True
            self.output.error(_as_sentence(target, error))
            return False
        if target != COMMAND and hand is kept:
            self.output.event("installed", {"target": target})
            self.output.say(f"{target} is installed.")
        self.output.notes(notes)
        return True

    def uninstall(self, targets: Sequence[str], dry_run: bool) -> int:
        """Takes targets out again; returns the exit status."""
        kept = Receipt(self.receipt_folder)
        chosen = [target for target in targets if target in kept.targets]
        for target in targets:
            if target not in kept.targets and len(targets) < len(TARGETS):
                self.output.say(f"{target} is not installed.")
        if not kept.targets:
            self.output.say("Nothing is installed.")
        if dry_run:
            for step in reversed(kept.steps):
                if step.target in chosen:
                    self.output.event("step", {"target": step.target, "action": f"undo {step.kind}", "path": step.path})
                    self.output.say(f"{step.target}: would undo {step.kind} {step.path}")
            return OK
        try:
            self.output.notes(kept.undo(chosen))
            if kept.targets == [COMMAND]:
                self.output.notes(kept.undo([COMMAND]))
        except OSError as error:
            self.output.error(_as_sentence("uninstall", error))
            return FAILED
        for target in chosen:
            self.output.event("uninstalled", {"target": target})
            self.output.say(f"{target} is taken out.")
        return OK

    def _check(self, kept: Receipt) -> bool:
        from paintover_bridge.doctor import examine_installed

        whole = True
        for check in examine_installed(self.data_folder):
            whole &= check.ok
            if not check.ok:
                self.output.error(ClientError("DATA_LOSS", f"{check.name}: {check.found}; {check.remedy}."))
        return whole

    # What each target is.

    def _command(self, hand: Hand) -> list[str]:
        engine = {"command": daemon.engine_command(), "cli": cli_command()}
        hand.write(COMMAND, self.data_folder / "service.json", (json.dumps(engine, indent=1) + "\n").encode())
        return []

    def _resolve(self, hand: Hand) -> list[str]:
        from paintover_bridge.hosts import resolve

        fusion = self.machine.real(places.fusion_folder(self.machine))
        runner = [sys.executable, "-m", "paintover_bridge.hosts.resolve", *self._elsewhere()]
        for path, text in resolve.files(fusion, self.data_folder, runner, self.machine.all_users).items():
            if path.name != "settings.lua" or not path.exists():  # those are the artist's own
                hand.write("resolve", path, text.encode())
        return []

    def _nuke(self, hand: Hand) -> list[str]:
        from paintover_bridge.hosts import nuke

        folder = self.machine.real(places.nuke_folder(self.machine))
        for path, text in nuke.files(folder, [*cli_command(), *self._elsewhere()]).items():
            hand.write("nuke", path, text.encode())
        hand.block("nuke", folder / "init.py", f"import nuke\n{nuke.LINE}")
        everyone = f"Nuke finds this for every user once NUKE_PATH names {folder}."
        return [everyone] if self.machine.all_users else []

    def _photoshop(self, hand: Hand) -> list[str]:
        agent = places.photoshop_installer(self.machine)
        if agent is None:
            raise NotHere("there is no Photoshop for this system; `paintover paint` works with GIMP and Krita.")
        is_real = self.machine.root is None
        if is_real and not Path(str(agent)).exists():
            raise NotHere(f"Adobe's installer {agent} is not here; install Creative Cloud, then this again.")
        panel = _HOSTS / "photoshop" / "panel"
        package = self.receipt_folder / "paintover.ccx"
        hand.write("photoshop", package, ccx(panel))
        if is_real:
            name = json.loads((panel / "manifest.json").read_text("utf-8"))["id"]
            flag = "/" if self.machine.system == WINDOWS else "--"
            command, undo = ([str(agent), f"{flag}{verb}"] for verb in ("install", "remove"))
            if wrong := hand.run("photoshop", [*command, str(package)], [*undo, name]):
                raise ClientError("FAILED_PRECONDITION", f"{wrong}.")
        return []

    def _ofx(self, hand: Hand) -> list[str]:
        bundle = self._find_bundle()
        place = self.machine.real(places.ofx_folder(self.machine)) / BUNDLE
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                mode = file.stat().st_mode & 0o777
                hand.write("ofx", place / file.relative_to(bundle), file.read_bytes(), mode)
        for cache in places.ofx_caches(self.machine):
            hand.clear("ofx", self.machine.real(cache))
        return ["Hosts see the effect when they start next; in Resolve, enable it under Preferences > Video Plugins."]

    def _elsewhere(self) -> list[str]:
        """The option that names the data folder, for programs that would look for it elsewhere."""
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
            raise NotHere("the OpenFX effect is not with this installation; name its bundle with --bundle.")
        return bundle

    def _service(self, hand: Hand) -> list[str]:
        words = [*cli_command(), *self._elsewhere(), "serve"]
        files = places.service_files(self.machine)
        for name, place in files.items():
            if name != "link":
                path = (
                    self.data_folder / "install" / name if self.machine.system == WINDOWS else self.machine.real(place)
                )
                hand.write("service", path, service_file(name, words))
        if "link" in files:
            hand.link("service", self.machine.real(files["link"]), str(self.machine.real(files["paintover.service"])))
        if self.machine.root is None:
            for command, undo in _session_commands(self.machine, self.data_folder):
                wrong = hand.run("service", command, undo)
                if wrong:
                    return [f"The engine starts with your next session ({wrong})."]
        return []


def cli_command() -> list[str]:
    """What runs `paintover` without any search path."""
    return [sys.executable, "-m", "paintover_bridge"]


def service_file(name: str, command: Sequence[str]) -> bytes:
    """A template of the service with the command that it starts."""
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
    """A word of ExecStart: systemd reads %, $ and backslashes in it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(letter.isspace() for letter in word) else word


def _windows_word(word: str) -> str:
    return f'"{word}"' if " " in word else word


def _session_commands(machine: Machine, data_folder: Path) -> list[tuple[list[str], list[str]]]:
    """What makes the session's manager start the engine now, and what takes that back."""
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
    """A panel's folder as the package that Adobe's installer takes: a zip, the same bytes for the same files."""
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
    if isinstance(error, NotHere):
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
    """The targets that "all" or names mean. Raises ClientError for a name that is none."""
    for name in names:
        if name not in (*TARGETS, "all"):
            raise bad_input(f"There is no '{name}' to install; choose from {', '.join(TARGETS)}, all.")
    return list(TARGETS) if "all" in names or not names else list(dict.fromkeys(names))
