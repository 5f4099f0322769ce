"""What the plug-ins of painting programs share: which shot an artist means by a file."""

from __future__ import annotations

import re
from pathlib import Path

IMAGES = (".exr", ".dpx", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_NUMBER = re.compile(r"(\d+)(?=\D*$)")


def chosen_shot(path: str) -> tuple[str, int | None]:
    """The source to give the `paintover` command for a chosen file, and the frame that the file is.

    A numbered image stands for its sequence; for a video the frame is None."""
    file = Path(path)
    found = _NUMBER.search(file.stem)
    if file.suffix.lower() not in IMAGES or found is None:
        return path, None
    stem = file.stem[: found.start()] + "#" * len(found[1]) + file.stem[found.end() :]
    return str(file.with_name(stem + file.suffix)), int(found[1])
