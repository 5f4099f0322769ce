"""Files in an object store (`s3://bucket/folder`, or whatever else `fsspec` knows), below one URL.

What is written once is written by a conditional put, which fails where the name is taken: of two writers one wins, and
readers see a whole file or none. Needs the extra [objects].
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

from paintover_engine.errors import Code, PaintoverError


def is_url(place: str) -> bool:
    """Whether a store's place is an object store's rather than a folder."""
    return "://" in place


class Objects:
    """Raises PaintoverError where the store does not answer, or what speaks to it is not installed."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            core = importlib.import_module("fsspec.core")
            # Listings that are cached would hide what other machines have written.
            self._files, self._root = core.url_to_fs(self.url, skip_instance_cache=True, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"The store '{url}' cannot be used ({error}); install what speaks to it: pip install "
                "'paintover[objects]'.",
            ) from error

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that is not there; False where it is."""
        with self._answering():
            try:
                self._files.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, or replaces it."""
        with self._answering():
            self._files.pipe_file(self._path(name), data)

    def read(self, name: str) -> bytes | None:
        """A file's content; None where it is not there."""
        with self._answering(), contextlib.suppress(FileNotFoundError):
            data: bytes = self._files.cat_file(self._path(name))
            return data
        return None

    def modified(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970 by the store's clock; None where it is not there."""
        with self._answering(), contextlib.suppress(FileNotFoundError):
            return float(self._files.modified(self._path(name)).timestamp())
        return None

    def remove(self, name: str) -> None:
        with self._answering(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))

    def names(self, folder: str) -> set[str]:
        """The names of all files in a folder."""
        with self._answering(), contextlib.suppress(FileNotFoundError):
            return {path.rpartition("/")[2] for path in self._files.ls(self._path(folder), detail=False)}
        return set()

    def upload(self, path: Path, name: str) -> None:
        with self._answering():
            self._files.put_file(str(path), self._path(name))

    def download(self, name: str, path: Path) -> None:
        with self._answering():
            self._files.get_file(self._path(name), str(path))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _answering(self) -> Any:
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:  # of whatever speaks to the store: boto's, aiohttp's, OSError
            raise PaintoverError(
                Code.UNAVAILABLE, f"The store '{self.url}' does not answer as it should ({error})."
            ) from error
