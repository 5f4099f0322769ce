"""The machine's own folders as the page shows them, for choosing a clip: only what the engine may touch."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.roots import AllowedRoots

ENTRIES = 5000  # of one folder that are looked at
VIDEOS = tuple(".mov .mp4 .mkv .webm .mxf .avi .m4v .ts .mts .m2ts .mpg .mpeg .dv .ogv .gxf .nut".split())  # noqa: SIM905
IMAGES = tuple(".exr .dpx .cin .tif .tiff .png .jpg .jpeg .jp2 .jxl .webp .hdr .tga .bmp .sgi".split())  # noqa: SIM905
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>-?\d+)(?P<suffix>\.\w+)")


def listing(text: str, roots: AllowedRoots) -> dict[str, Any]:
    """A folder's folders and clips (videos, and numbered images as one). text: its path; "": where to begin.

    Raises PaintoverError for what is no folder, cannot be read, or is not to be touched."""
    path = Path(roots.check(text or str(roots.first or Path.home()), "The folder"))
    try:
        with os.scandir(path) as entries:
            found = [entry for entry, _ in zip(entries, range(ENTRIES), strict=False) if not entry.name.startswith(".")]
            folders = sorted((entry.name for entry in found if entry.is_dir()), key=str.casefold)
            names = [entry.name for entry in found if entry.is_file()]
    except OSError as error:
        raise PaintoverError(
            Code.NOT_FOUND, f"The folder '{path}' cannot be read ({error.strerror}); choose another."
        ) from error
    return {
        "path": str(path),
        "parent": str(path.parent) if path.parent != path and roots.allows(path.parent) else None,
        "folders": folders,
        "clips": _videos(names) + _sequences(names),
    }


def _videos(names: list[str]) -> list[dict[str, Any]]:
    found = sorted((name for name in names if Path(name).suffix.lower() in VIDEOS), key=str.casefold)
    return [{"name": name, "source": name, "frames": None} for name in found]


def _sequences(names: list[str]) -> list[dict[str, Any]]:
    """Numbered images of one name as patterns; one image alone is no clip."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and match["suffix"].lower() in IMAGES:
            groups[match["stem"], match["suffix"]].append(match["number"])
    clips = []
    for (stem, suffix), numbers in sorted(groups.items()):
        if len(numbers) < 2:
            continue
        padding = min(len(number.lstrip("-")) for number in numbers)
        values = sorted(map(int, numbers))
        clips.append(
            {
                "name": f"{stem}[{values[0]}-{values[-1]}]{suffix}",
                "source": f"{stem}{'#' * padding}{suffix}",
                "frames": len(values),
            }
        )
    return clips
