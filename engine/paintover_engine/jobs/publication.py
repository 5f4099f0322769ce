"""Publishing a written result under its final names, so that a kill in the midst of it spoils nothing.

A file's rename is atomic; those of a sequence together with the queue's "done" are not. So the renames are recorded
first. A job that runs again finds its record: it finishes the renames that are left, or recognises its files, by their
sizes and times, and does not take them for somebody else's.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from paintover_engine.durable import replace_files, sync_file, write_file
from paintover_engine.errors import Code, PaintoverError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Rename:
    """One file of a result. size in bytes, time of its last change in nanoseconds: a rename keeps both."""

    staged: str
    final: str
    size: int
    changed: int

    def is_at(self, path: str) -> bool:
        try:
            status = os.stat(path)
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.changed)


def publish(renames: Sequence[tuple[Path, Path]], record: Path | None, notes: Sequence[str], overwrite: bool) -> None:
    """Renames the files of a result, (staged, final), the sidecar last: where it stands, the output is whole. An
    earlier output's sidecar is removed first.

    record: where what is done is stored before; None: nowhere."""
    if record:
        described = []
        for staged, final in renames:
            sync_file(staged)
            status = staged.stat()
            described.append(asdict(_Rename(str(staged), str(final), status.st_size, status.st_mtime_ns)))
        write_file(record, json.dumps({"renames": described, "notes": list(notes), "overwrite": overwrite}))
    if overwrite:
        renames[-1][1].unlink(missing_ok=True)
    replace_files(renames)


def resume(record: Path) -> tuple[str, ...] | None:
    """Finishes what `publish` began, and returns its notes; None where there is nothing to finish, so that the result
    is to be written anew.

    Raises PaintoverError where another program has meanwhile taken a final name."""
    try:
        values = json.loads(record.read_text())
        renames = [_Rename(**rename) for rename in values["renames"]]
        notes, overwrite = tuple(str(note) for note in values["notes"]), bool(values["overwrite"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning("the record %s of a publication cannot be read: %r", record, error)
        return None
    done = [rename for rename in renames if rename.is_at(rename.final)]
    left = [rename for rename in renames if rename not in done]
    if not all(rename.is_at(rename.staged) for rename in left):  # somebody removed or changed a file
        for rename in done:  # written by this job, as the new ones will be
            Path(rename.final).unlink(missing_ok=True)
        record.unlink(missing_ok=True)
        return None
    if taken := [rename.final for rename in left if Path(rename.final).exists() and not overwrite]:
        raise PaintoverError(
            Code.ALREADY_EXISTS, f"'{taken[0]}' appeared while the result was published; move it away, then retry."
        )
    replace_files([(Path(rename.staged), Path(rename.final)) for rename in left])
    for folder in {Path(rename.staged).parent for rename in renames}:
        shutil.rmtree(folder, ignore_errors=True)
    return notes
