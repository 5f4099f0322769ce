"""GIMP 3's plug-in, run by GIMP's own Python 3."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("GimpUi", "3.0")
from gi.repository import Gimp, GimpUi, Gio, GLib, GObject  # noqa: E402

from paintover_bridge.hosts.command import HostError, find_command  # noqa: E402
from paintover_bridge.hosts.painting import chosen_shot, run_paint  # noqa: E402

PAINT, DRAFT = "plug-in-paintover-paint", "plug-in-paintover-draft"
_PARASITE = "paintover"  # of an image: what it was opened for, as JSON
_SHOWS = "paintover-shows"  # of the draft's image: the path of its file
_PERSISTENT = 1  # the parasite is saved with an .xcf
_PLACE = Path(__file__).parents[3]  # where the installer put the command's settings
_LARGEST = 10_000_000
_SHOT = "A video, or a frame of an image sequence"


class Paintover(Gimp.PlugIn):  # type: ignore[misc]
    """Offers GIMP two procedures."""

    def do_set_i18n(self, name: str) -> bool:
        return False

    def do_query_procedures(self) -> list[str]:
        return [PAINT, DRAFT]

    def do_create_procedure(self, name: str) -> Any:
        if name == DRAFT:
            procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, see_draft, None)
            procedure.set_image_types("RGB*")
            procedure.set_menu_label("Save and See the _Draft")
            text = "Saves the painting, and shows what it makes of the shot's other frames"
        else:
            flags = GObject.ParamFlags.READWRITE
            procedure = Gimp.Procedure.new(self, name, Gimp.PDBProcType.PLUGIN, paint_over, None)
            procedure.set_menu_label("Paint _Over a Shot…")
            procedure.add_enum_argument(
                "run-mode", "Run mode", "The run mode", Gimp.RunMode, Gimp.RunMode.INTERACTIVE, flags
            )
            procedure.add_file_argument("shot", "_Shot", _SHOT, Gimp.FileChooserAction.OPEN, False, None, flags)
            procedure.add_int_argument("frame", "_Frame of a video", _SHOT, -_LARGEST, _LARGEST, 0, flags)
            text = "Opens a frame of a shot to paint on"
        procedure.set_documentation(text, text, name)
        procedure.set_attribution("Paintover", "Apache-2.0", "2026")
        procedure.add_menu_path("<Image>/File")
        return procedure


def paint_over(procedure: Any, config: Any, data: Any) -> Any:
    """Runs *Paint Over a Shot*."""
    interactive = config.get_property("run-mode") == Gimp.RunMode.INTERACTIVE
    if interactive:
        GimpUi.init(PAINT)
        dialog = GimpUi.ProcedureDialog.new(procedure, config, "Paint Over a Shot")
        dialog.fill(["shot", "frame"])
        chosen = dialog.run()
        dialog.destroy()
        if not chosen:
            return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, None)
    shot = config.get_property("shot")
    try:
        if shot is None:
            raise HostError("No shot was chosen.")
        source, number = chosen_shot(shot.get_path())
        frame = config.get_property("frame") if number is None else number
        path = run(source, frame, once=False)
        image = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(path))
        opened = json.dumps({"source": source, "frame": frame, "path": path}).encode()
        image.attach_parasite(Gimp.Parasite.new(_PARASITE, _PERSISTENT, opened))
        Gimp.Display.new(image)
        Gimp.displays_flush()
    except HostError as error:
        return _failed(procedure, error)
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, None)


def see_draft(procedure: Any, run_mode: Any, image: Any, drawables: Any, config: Any, data: Any) -> Any:
    """Runs *Save and See the Draft*."""
    parasite = image.get_parasite(_PARASITE)
    try:
        if parasite is None:
            raise HostError("This image is no frame of a shot: open one with File > Paint Over a Shot.")
        opened = json.loads(bytes(parasite.get_data()))
        Gimp.file_save(Gimp.RunMode.NONINTERACTIVE, image, Gio.File.new_for_path(opened["path"]), None)
        image.clean_all()
        show(run(opened["source"], opened["frame"], once=True))
    except HostError as error:
        return _failed(procedure, error)
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, None)


def show(path: str) -> None:
    """Shows a file; in place of the image that showed the same file before."""
    shown = ((each, each.get_parasite(_SHOWS)) for each in Gimp.get_images())
    before = [
        image for image, parasite in shown if parasite is not None and bytes(parasite.get_data()) == path.encode()
    ]
    image = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(path))
    image.attach_parasite(Gimp.Parasite.new(_SHOWS, 0, path.encode()))
    if before:
        Gimp.displays_reconnect(before[0], image)
    else:
        Gimp.Display.new(image)
    Gimp.displays_flush()


def run(source: str, frame: int, once: bool) -> str:
    """`run_paint` with GIMP's progress bar."""
    Gimp.progress_init("The shot follows" if once else "Opening the frame")
    try:
        return run_paint(find_command(_PLACE), source, frame, once, Gimp.progress_update)
    finally:
        Gimp.progress_end()


def _failed(procedure: Any, error: HostError) -> Any:
    reason = GLib.Error.new_literal(Gimp.PlugIn.error_quark(), str(error), 0)
    return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, reason)


def main() -> None:
    """Serves the call that GIMP started this program for."""
    Gimp.main(Paintover.__gtype__, sys.argv)
