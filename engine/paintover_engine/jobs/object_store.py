"""The store of stage outputs on an object store, with a folder of this machine in front of it.

An output is a small file that lists others, `outputs/KEY`. Those are uploaded first, under names that no other writer
has; then the list is put, if there is none yet. So an output is there as a whole or not at all, the first writer's.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from pathlib import Path

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.objects import Objects
from paintover_engine.jobs.store import Store

LISTING_SECONDS = 1.0
"""For so long a list of what the store holds is taken for true."""


class ObjectStore(Store):
    """Outputs of all machines that share the store. folder: this machine's own copies of what it read and wrote."""

    def __init__(self, folder: DataFolder, objects: Objects) -> None:
        super().__init__(folder)
        self.objects = objects
        self._listed: set[str] = set()
        self._listed_at = float("-inf")

    def has(self, key: str, publishes: bool) -> bool:
        if super().has(key, publishes) or key in self._listed:
            return True
        if time.monotonic() - self._listed_at > LISTING_SECONDS:
            self._listed = self.objects.names("outputs")
            self._listed_at = time.monotonic()
        return key in self._listed

    def look_again(self) -> None:
        self._listed_at = float("-inf")

    def fetched(self, key: str, publishes: bool) -> Path:
        final = self.path(key, publishes)
        if final.is_dir():
            return final
        listed = self.objects.read(f"outputs/{key}")
        if listed is None:
            self._listed.discard(key)
            return final
        partial = self.folder.temporary / f"{key[:16]}-{uuid.uuid4().hex[:8]}"
        partial.mkdir(parents=True)
        try:
            described = json.loads(listed)
            for name in map(str, described["files"]):
                if Path(name).name != name:
                    raise ValueError(name)
                self.objects.download(f"parts/{described['prefix']}-{name}", partial / name)
            final.parent.mkdir(exist_ok=True)
            with contextlib.suppress(OSError):  # another thread was quicker
                partial.rename(final)
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise PaintoverError(
                Code.UNAVAILABLE, f"An output in the store '{self.objects.url}' cannot be read ({error})."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return final

    def remove(self, key: str, publishes: bool) -> None:
        super().remove(key, publishes)
        self._listed.discard(key)
        self.objects.remove(f"outputs/{key}")

    def remember(self, name: str, key: str) -> None:
        self.objects.create(f"names/{name}", key.encode())

    def _remembered(self, name: str) -> str:
        key = self.objects.read(f"names/{name}")
        if key is None:
            raise FileNotFoundError(name)
        return key.decode("ascii", "replace")

    def _publish(self, partial: Path, key: str, publishes: bool) -> None:
        prefix = f"{key}-{uuid.uuid4().hex[:12]}"
        names = sorted(path.name for path in partial.iterdir())
        for name in names:
            self.objects.upload(partial / name, f"parts/{prefix}-{name}")
        if self.objects.create(f"outputs/{key}", json.dumps({"prefix": prefix, "files": names}).encode()):
            super()._publish(partial, key, publishes)
            return
        for name in names:  # another machine was quicker: its output is the one that all read
            self.objects.remove(f"parts/{prefix}-{name}")

    def create_once(self, name: str, text: str) -> str:
        self.objects.create(name, text.encode())
        return (self.objects.read(name) or text.encode()).decode()

    def fetch_file(self, path: Path) -> None:
        data = self.objects.read(path.relative_to(self.folder.root).as_posix())
        if data is not None:
            path.write_bytes(data)

    def share_file(self, path: Path) -> None:
        self.objects.write(path.relative_to(self.folder.root).as_posix(), path.read_bytes())
