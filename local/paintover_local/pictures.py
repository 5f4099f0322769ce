"""Where the pictures lie that an artist paints on. `paintover paint` and Photoshop's panel, which asks the engine, use
the same file for the same frame."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_NUMBERING = re.compile(r"[.\s]*(%0?\d*d|[#@]+|\[\d+-\d+\])")


def keyframe_picture(data_folder: Path, source: str, frame: int, format: str = "psd") -> Path:
    """The file to paint a frame on, below the engine's data folder.

    source: the shot's source as the engine names it. format: the file's extension, without a dot."""
    path = Path(source)
    stem = path.stem if not path.is_dir() else f"{path.parent.name}_{path.name}".strip("_")
    stem = _NUMBERING.sub("", stem) or "shot"
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]  # tells sources of one name apart
    return data_folder / "paint" / f"{stem}-{digest}" / f"{stem}_{frame:04d}.{format}"


def draft_picture(picture: Path) -> Path:
    """The file that shows frames of the result beside a file to paint on. Nothing watches it for saves."""
    return picture.with_name(f"{picture.stem}_draft.psd")
