"""Paintover in DaVinci Resolve: menu scripts in Lua, which run in every edition, and `studio`, the same for pipelines.

The free edition's scripts can start no program since Resolve 21.1. So a script leaves a request (in a file, for a
process that it starts, or in Fusion's preferences, which `watch` reads); `runner` answers by appending to Lua files.
An engine runs `watch` itself where the scripts are installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paintover_local.places import RESOLVE_MODULE, resolve_mailbox, resolve_module

LUA = Path(__file__).parent / "lua"
MENU = "Scripts/Utility/Paintover"  # below Resolve's Fusion folder; Utility is shown on every page

SETTINGS = """-- How Paintover behaves in DaVinci Resolve. Read at each use.
return {
  bring = "take",        -- "take": as a take on the clip; "track": on a new track above
  finalize = false,      -- true: keeps the take alone; the original then only comes back by undo
  follow_minutes = 120,  -- how long saves come back to the timeline by themselves
  output = "",           -- a folder for results; "": "paintover" beside the clip's file
  editor = "",           -- the program that opens for painting; "": Paintover's own choice
  method = "draft",      -- what each save is carried by
  final_method = "best"  -- what Propagate carries by; "best": the best that this machine can run
}
"""

ABOUT = "Requests of the scripts in DaVinci Resolve. Each is taken as soon as it is here.\n"  # Lua makes no folder


def files(fusion: Path, data_folder: Path, runner: Sequence[str], all_users: bool = False) -> dict[Path, str]:
    """What to install. fusion: Resolve's Fusion folder (the one that holds Scripts); runner: the command that starts
    this package (`module_command("paintover_bridge.hosts.resolve")`).

    all_users: the scripts work in the data folder of whoever uses them.
    The settings are the artist's: an installer writes them only where there are none."""
    mailbox, common = resolve_mailbox(data_folder), resolve_module(fusion, data_folder, all_users)
    words = [*runner, *([] if all_users else ["--data-dir", str(data_folder)]), "run"]
    module = (LUA / RESOLVE_MODULE).read_text("utf-8")
    module = module.replace('"@FOLDER@"', lua_text("" if all_users else mailbox.as_posix()))
    module = module.replace('"@RUNNER@"', ", ".join(map(lua_text, words)))
    written = {common: module}
    if not all_users:
        written |= {mailbox / "settings.lua": SETTINGS, mailbox / "requests" / "about.txt": ABOUT}
    for script in sorted(LUA.glob("*.lua")):
        if script.name != RESOLVE_MODULE:
            text = script.read_text("utf-8").replace('"@MODULE@"', lua_text(common.as_posix()))
            written[fusion / MENU / script.name] = text
    return written


def lua_text(text: str) -> str:
    """A Lua string literal of any text, in ASCII."""
    raw = text.encode("utf-8", "surrogateescape")
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in raw)
    return '"' + "".join(plain) + '"'
