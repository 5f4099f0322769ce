"""The store of stage outputs, by the stages' keys; an output is there as a whole or not at all.

It is a folder named by the key, written elsewhere and renamed into place. Tensors and frames are safetensors files: a
JSON header, then raw samples that any program can memory-map. This module reads headers only, so that the daemon needs
no numpy; `paintover_engine.jobs.outputs` reads and writes samples.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paintover_engine.compose.reason import Reason
from paintover_engine.durable import sync_file, sync_folder
from paintover_engine.jobs.folders import DataFolder

LEFTOVER_SECONDS = 24 * 3600.0  # after that a partial output is of a process that was killed


@dataclass(frozen=True)
class StoredFrame:
    """Where a result frame's pixels lie: (height, width, 4) half floats at `offset` of `path`, RGB and matte.

    bounds: x, y, width, height in the plate's pixels; size: the plate's width and height.
    confidence: 0 to 1; reason: why it is low; checksum: SHA-256 of the samples in hex, "" for a frame of a version that
    wrote none.
    """

    number: int
    path: Path
    offset: int
    length: int
    bounds: tuple[int, int, int, int]
    size: tuple[int, int]
    confidence: float
    reason: Reason
    checksum: str


class Store:
    """Stage outputs by key under one data folder.

    results: where outputs that publish frames lie; the data folder's results when None.
    """

    def __init__(self, folder: DataFolder, results: Path | None = None) -> None:
        self.folder = folder
        self._results = results or folder.results
        self._undamaged: set[tuple[str, int, int]] = set()  # versions of files whose checksums were right

    def path(self, key: str, publishes: bool) -> Path:
        """The folder that holds, or will hold, a stage's output."""
        return (self._results if publishes else self.folder.cache) / key[:2] / key

    def has(self, key: str, publishes: bool) -> bool:
        return self.path(key, publishes).is_dir()

    def look_again(self) -> None:
        """What `has` says next is true now: another machine may have stored something since it was last asked."""

    def fetched(self, key: str, publishes: bool) -> Path:
        """The folder that holds an output, brought to this machine where it lies elsewhere; no folder where there is
        none."""
        return self.path(key, publishes)

    @contextlib.contextmanager
    def writing(self, key: str, publishes: bool) -> Iterator[Path]:
        """A folder to write a stage's output into; published when the block succeeds, removed otherwise."""
        partial = self.folder.temporary / f"{key[:16]}-{uuid.uuid4().hex[:8]}"
        partial.mkdir(parents=True)
        try:
            yield partial
            for path in partial.iterdir():
                sync_file(path)
            sync_folder(partial)
            self._publish(partial, key, publishes)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _publish(self, partial: Path, key: str, publishes: bool) -> None:
        """Gives a written output its place, unless another writer published the same meanwhile."""
        final = self.path(key, publishes)
        if not final.parent.is_dir():
            final.parent.mkdir(exist_ok=True)
            sync_folder(final.parent.parent)
        with contextlib.suppress(FileExistsError):
            try:
                partial.rename(final)
            except OSError as error:
                if final.is_dir():
                    raise FileExistsError from error
                raise
        sync_folder(final.parent)

    def remember(self, name: str, key: str) -> None:
        """Stores which key's tensors are the output of that name. Stages of different keys, whose inputs come from
        different keyframes but are equal, have one name (`Stage.named`)."""
        note = self._note(name)
        with contextlib.suppress(OSError):  # without it the output is computed again
            note.parent.mkdir(parents=True, exist_ok=True)
            partial = note.with_suffix(f".{uuid.uuid4().hex[:8]}")
            partial.write_text(key)
            partial.replace(note)

    def find_again(self, name: str, key: str) -> bool:
        """Links the tensors that were remembered by a name to another key too; False where there are none."""
        try:
            source = self.fetched(self._remembered(name), publishes=False)
            with self.writing(key, publishes=False) as folder:
                for path in source.iterdir():
                    _share(path, folder / path.name)
        except FileNotFoundError:  # never computed, or just evicted
            return False
        return True

    def _remembered(self, name: str) -> str:
        return self._note(name).read_text()

    def _note(self, name: str) -> Path:
        return self.path(name, publishes=False) / "key"

    def frames(self, key: str) -> list[StoredFrame]:
        """The frames that a stage published, ascending by number."""
        return [read_header(path) for path in sorted(self.fetched(key, publishes=True).glob("*.safetensors"))]

    def frame(self, key: str, number: int) -> StoredFrame:
        """One of them. FileNotFoundError where the stage did not publish it, or its output is gone."""
        return read_header(frame_path(self.fetched(key, publishes=True), number))

    def is_whole(self, key: str, publishes: bool) -> bool:
        """Whether an output is there and undamaged: frames by their checksums, tensors by their sizes. (Tensors have
        checksums too, which `outputs.load_tensors` checks: they are of arrays, which this module does not read.)"""
        folder = self.path(key, publishes)
        if not folder.is_dir():
            return False
        try:
            if publishes:
                return all(self.is_undamaged(frame) for frame in self.frames(key))
            return all(has_its_size(path) for path in folder.iterdir())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def is_undamaged(self, frame: StoredFrame) -> bool:
        """Whether a frame's samples match its checksum. Reads them once in a process, unless the file changes."""
        status = os.stat(frame.path)
        version = (str(frame.path), status.st_mtime_ns, status.st_size)
        if version not in self._undamaged:
            if _checksum_of(frame) != frame.checksum:
                return False
            self._undamaged.add(version)
        return True

    def remove(self, key: str, publishes: bool) -> None:
        """Removes an output, whole: it is renamed first."""
        doomed = self.folder.temporary / f"removed-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            self.path(key, publishes).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    # Small files beside the outputs, which all machines see.

    def identity(self) -> str:
        """Random text that tells this store from others, whatever path it is seen under."""
        return self.create_once("store-id", uuid.uuid4().hex)

    def create_once(self, name: str, text: str) -> str:
        """Creates a file below the store's folder unless there is one; returns what it holds."""
        path = self.folder.stages / name
        with contextlib.suppress(FileExistsError), open(path, "x", encoding="utf-8") as file:
            file.write(text)
        return path.read_text("utf-8")

    def fetch_file(self, path: Path) -> None:
        """Brings a file of the store's folder to this machine, where there is one."""

    def share_file(self, path: Path) -> None:
        """Has all machines see a file of the store's folder as it is now."""

    def clear_temporary(self) -> None:
        """Removes what killed writers left; for the holder of the folder's lock, before any worker runs. In a folder
        that others share, what has not been touched for a day."""
        for leftover in self.folder.temporary.iterdir():
            if self.folder.shared and time.time() - leftover.stat().st_mtime < LEFTOVER_SECONDS:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


PICTURE = "picture.webp"
"""The file name of a picture to look at, in the folder of its key."""


def frame_path(folder: Path, number: int) -> Path:
    """The file of one frame in the folder of the stage that published it. Not in the order of negative numbers."""
    return folder / f"{number:08d}.safetensors"


def write_tensor(path: Path, name: str, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    """Writes a safetensors file of one tensor from raw bytes. dtype: "U8", "U16", "F16" or "F32"."""
    header = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.writelines([len(header).to_bytes(8, "little"), header, data])


def read_header(path: Path) -> StoredFrame:
    """A frame file's header (safetensors: 8 bytes of header length, JSON, samples)."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        total = os.fstat(file.fileno()).st_size
    meta = header["__metadata__"]
    x, y, width, height = json.loads(meta["window"])
    full_width, full_height = json.loads(meta["size"])
    return StoredFrame(
        number=int(meta["number"]),
        path=path,
        offset=8 + size,
        length=total - 8 - size,
        bounds=(x, y, width, height),
        size=(full_width, full_height),
        confidence=float(meta["confidence"]),
        reason=Reason(int(meta.get("reason", Reason.NONE))),
        checksum=meta.get("checksum", ""),
    )


def checksum(samples: bytes | memoryview) -> str:
    """SHA-256 of a frame's samples in hex."""
    return hashlib.sha256(samples).hexdigest()  # processors have instructions for it


def _share(path: Path, other: Path) -> None:
    """Gives a file, which is never changed, a second name."""
    try:
        os.link(path, other)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(path, other)


def _checksum_of(frame: StoredFrame) -> str:
    """The checksum of a frame's samples on disk; "" for a whole frame of a version that wrote no checksums."""
    if not frame.checksum:
        _, _, width, height = frame.bounds
        return "" if frame.length == width * height * 8 else "too short"
    with open(frame.path, "rb") as file:
        file.seek(frame.offset)
        return checksum(file.read())


def has_its_size(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says. Raises ValueError and the like for no such file."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return os.fstat(file.fileno()).st_size == 8 + size + max(ends, default=0)
