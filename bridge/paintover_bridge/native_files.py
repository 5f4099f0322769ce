"""What painting programs keep in files of their own kind, as pictures that the engine reads.

Krita's .kra and OpenRaster's .ora are zip files that hold the flattened picture. GIMP's .xcf is read by GIMP itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Union

from paintover_bridge.errors import ClientError, bad_input

ZIPPED = (".kra", ".ora")
GIMP = ".xcf"
NATIVE = (*ZIPPED, GIMP)
_MERGED = "mergedimage.png"
_LARGEST = 1 << 30  # bytes of a flattened picture
_GIMP_SECONDS = 120.0
_PROGRAMS = ("gimp", "gimp-3.0", "gimp-2.10")

_TO_PSD = """
(define image (car (gimp-file-load RUN-NONINTERACTIVE "{source}"{again})))
(gimp-file-save RUN-NONINTERACTIVE image {drawable}"{target}"{named})
"""
"""`again`, `drawable` and `named` are what GIMP 2 takes more than GIMP 3."""


def readable(path: Path) -> Union[Path, bytes]:  # noqa: UP007  # Python 3.9
    """A picture that the engine reads: the file itself, or what a program's own file holds, as an image file's bytes.

    Raises ClientError where that cannot be had, with what to do."""
    suffix = path.suffix.lower()
    if suffix in ZIPPED:
        return _merged(path)
    return _by_gimp(path) if suffix == GIMP else path


def _merged(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as opened:
            if opened.getinfo(_MERGED).file_size > _LARGEST:
                raise bad_input(f"The picture in '{path.name}' is too large; save a PSD or PNG beside it.")
            return opened.read(_MERGED)
    except (OSError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise bad_input(f"'{path.name}' holds no flattened picture; save a PSD or PNG beside it.") from error


def _by_gimp(path: Path) -> bytes:
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise bad_input(f"'{path.name}' is read by GIMP, which is not found here; overwrite the PSD, or export a PNG.")
    with tempfile.TemporaryDirectory(prefix="paintover-xcf-") as folder:
        target = Path(folder) / "picture.psd"
        script = Path(folder) / "convert.scm"
        script.write_text(_script(program, path, target), encoding="utf-8")
        command = [program, "-i", "-d", "-f", *_interpreter(program)]
        command += ["-b", f'(load "{_quoted(script)}")', "-b", "(gimp-quit 0)"]
        try:
            subprocess.run(command, capture_output=True, timeout=_GIMP_SECONDS, check=False, stdin=subprocess.DEVNULL)
            return target.read_bytes()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClientError(
                "INVALID_ARGUMENT", f"GIMP could not read '{path.name}'; overwrite the PSD, or export a PNG beside it."
            ) from error


def _script(program: str, source: Path, target: Path) -> str:
    from_file, to_file = _quoted(source), _quoted(target)
    if _is_gimp_2(program):
        return _TO_PSD.format(
            source=from_file,
            again=f' "{from_file}"',
            drawable="(car (gimp-image-get-active-drawable image)) ",
            target=to_file,
            named=f' "{to_file}"',
        )
    return _TO_PSD.format(source=from_file, again="", drawable="", target=to_file, named="")


def _interpreter(program: str) -> list[str]:
    return [] if _is_gimp_2(program) else ["--batch-interpreter=plug-in-script-fu-eval"]


def _is_gimp_2(program: str) -> bool:
    ran = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, env={**os.environ})
    return " 2." in ran.stdout


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
