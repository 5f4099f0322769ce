"""The files of a model's folder that are computed from: which weights are read, and one digest of all. No torch.

Weights are read from safetensors files alone. The older `.bin` files are pickles, which run code when they are opened.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError

_PICKLES = {".bin", ".pt", ".pth", ".ckpt"}

_HASHED = 64 * 2**20
"""Bytes up to which a file's content counts for the digest; of a larger one, its size, times of change and inode."""


def variant(part: Path, half: bool) -> str | None:
    """Which of a network's safetensors files are read, as diffusers names it: "fp16", or None for full precision.

    What is computed in half precision reads the files in half precision where there are some, all else those in full
    precision; either takes the other where it is alone."""
    files = [file.name for file in part.glob("*.safetensors")]
    halves = [name for name in files if ".fp16." in name or ".fp16-" in name]
    return "fp16" if halves and (half or len(halves) == len(files)) else None


def require_safetensors(part: Path) -> None:
    """Raises PaintoverError where a network's folder has no weights in safetensors."""
    if any(part.glob("*.safetensors")):
        return
    if any(file.suffix in _PICKLES for file in part.iterdir()):
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The weights in {part} are pickles, which can run programs, and are not opened: download the model's "
            f"safetensors files, or write them with '{sys.executable} -m paintover_engine.diffusion.convert {part}'.",
        )
    raise PaintoverError(
        Code.FAILED_PRECONDITION,
        f"The model folder {part.parent} is incomplete: {part.name} has no safetensors file; download it again.",
    )


def require_tokenizer(part: Path) -> None:
    """Raises PaintoverError where a tokenizer's folder has no vocabulary: it would be loaded as one without words."""
    if not (part / "tokenizer.json").is_file() and not all((part / n).is_file() for n in ("vocab.json", "merges.txt")):
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The model folder {part.parent} is incomplete: {part.name} has neither tokenizer.json nor vocab.json and "
            "merges.txt; download it again.",
        )


def digest(groups: Iterable[tuple[Path, Iterable[Path]]]) -> str:
    """16 hex digits of files, by their names relative to a folder and what is in them. groups: folders, and files in
    each."""
    found = hashlib.sha256()
    for folder, files in groups:
        for file in sorted(files):
            status = file.stat()
            version = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            found.update(f"{file.relative_to(folder).as_posix()} {_content(file, version)}\n".encode())
    return found.hexdigest()[:16]


@functools.lru_cache(maxsize=256)
def _content(path: Path, version: tuple[int, int, int, int]) -> str:
    """What stands for a file's content. version: size, times of the last change of content and status, inode."""
    if version[0] > _HASHED:
        return " ".join(map(str, version))
    return hashlib.sha256(path.read_bytes()).hexdigest()
