"""Stage outputs as arrays, which workers read from the store and write to it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from paintover_engine.durable import replace_file
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.protocol import PublishedFrame
from paintover_engine.jobs.store import Store, StoredFrame, checksum, frame_path
from paintover_engine.media.correction import Correction, Drag
from paintover_engine.media.keyframe import Keyframe
from paintover_engine.media.keyframe_kind import KeyframeKind
from paintover_engine.media.video_picture import read_only
from paintover_engine.methods.stage import ResultFrame, Tensors

CHECKSUM = "checksum"
"""The key of a checksum in a file's metadata."""

_undamaged: set[tuple[str, int, int]] = set()
"""Path, modification time and size of the files whose checksums this process has checked, or has just written: it would
read them from the system's memory, not from the disk."""


class OutputDamaged(PaintoverError):
    """A stage's output was damaged on disk and is removed, or is gone. Transient: the job computes it again."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.UNAVAILABLE, message)


def save_tensors(store: Store, key: str, tensors: Tensors) -> None:
    """Stores a stage's tensors under the stage's key."""
    with store.writing(key, publishes=False) as folder:
        path = folder / "tensors.safetensors"
        _save(tensors, path, {CHECKSUM: _checksum(tensors)})
        _, modified, size = _version(path)
    _undamaged.add((str(store.path(key, publishes=False) / path.name), modified, size))


def digest(store: Store, key: str) -> str | None:
    """64 hex digits of the tensors of the stage of that key; None where they are not there."""
    try:
        return hashlib.sha256(_tensors(store, key).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def load_tensors(store: Store, key: str) -> Mapping[str, NDArray[Any]]:
    """The tensors of the stage of that key.

    Raises OutputDamaged, and removes them, where they are not what was written: the stage is then run again. So it is
    where they are gone: another worker may have found them damaged a moment before."""
    try:
        return _load(_tensors(store, key))[0]
    except FileNotFoundError as error:
        raise OutputDamaged(f"A stage's output is gone from the disk ({error}).") from error
    except _Damaged as error:
        store.remove(key, publishes=False)
        raise OutputDamaged(f"A stage's output was damaged on disk ({error}).") from error


def _tensors(store: Store, key: str) -> Path:
    return store.fetched(key, publishes=False) / "tensors.safetensors"


def save_checkpoint(store: Store, key: str, tensors: Tensors) -> None:
    """Stores a running stage's state in place of an earlier one. A kill leaves the one or the other, whole."""
    path = _checkpoint(store, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    _save(tensors, partial, {CHECKSUM: _checksum(tensors)})
    replace_file(partial, path)


def load_checkpoint(store: Store, key: str) -> Mapping[str, NDArray[Any]] | None:
    """The state that `save_checkpoint` stored last; None where there is none."""
    path = _checkpoint(store, key)
    if not path.exists():
        return None
    try:
        return _load(path)[0]
    except _Damaged:  # the stage starts over
        drop_checkpoint(store, key)
        return None


def drop_checkpoint(store: Store, key: str) -> None:
    """Removes the checkpoint of the stage of that key, which is finished."""
    shutil.rmtree(_checkpoint(store, key).parent, ignore_errors=True)


def _checkpoint(store: Store, key: str) -> Path:
    """The file of a stage's checkpoint, which lies in the cache under a key of its own."""
    own = hashlib.sha256(f"{key} checkpoint".encode()).hexdigest()
    return store.path(own, publishes=False) / "checkpoint.safetensors"


def save_frames(store: Store, key: str, frames: Iterable[ResultFrame], size: tuple[int, int]) -> list[PublishedFrame]:
    """Stores the frames that a stage publishes under its key.

    size: the plate's width and height."""
    published = []
    with store.writing(key, publishes=True) as folder:
        for frame in frames:
            painted = np.ascontiguousarray(frame.painted, np.float16)
            metadata = {
                "number": str(frame.number),
                "window": json.dumps(frame.bounds),
                "size": json.dumps(size),
                "confidence": f"{frame.confidence:.4f}",
                "reason": str(int(frame.reason)),
                "checksum": checksum(painted.reshape(-1).view(np.uint8).data),
            }
            _save({"painted": painted}, frame_path(folder, frame.number), metadata)
            published.append(PublishedFrame(number=frame.number, confidence=frame.confidence, reason=frame.reason))
    return published


def check_frame(store: Store, stored: StoredFrame) -> None:
    """Raises OutputDamaged, and removes the stage's output, where a result frame's samples are not what was written."""
    if not store.is_undamaged(stored):
        store.remove(stored.path.parent.name, publishes=True)
        raise OutputDamaged(f"The result of frame {stored.number} was damaged on disk.")


def load_painted(stored: StoredFrame) -> NDArray[np.float16]:
    """A result frame's pixels, memory-mapped: (height, width, 4), RGB in the shot's encoding and the matte."""
    _, _, width, height = stored.bounds
    if not width or not height:
        return np.zeros((0, 0, 4), np.float16)
    return np.memmap(stored.path, np.float16, "r", stored.offset, (height, width, 4))


def save_keyframe(path: Path, keyframe: Keyframe) -> None:
    """Stores a keyframe as it was read, so that later changes of the artist's file do not affect running jobs."""
    tensors = {"working": keyframe.working}
    if keyframe.matte is not None:
        tensors["matte"] = keyframe.matte
    _save_given(path, tensors, keyframe, {"compressed": json.dumps(keyframe.compressed)})


def load_keyframe(path: Path) -> Keyframe:
    """A keyframe that `save_keyframe` stored, with read-only arrays: stages share them. Raises PaintoverError where it
    is damaged: no stage can compute it."""
    with _named_damage(path):
        tensors, metadata = _load(path)
        return Keyframe(
            frame=int(metadata["frame"]),
            working=read_only(tensors["working"]),
            matte=read_only(tensors["matte"]) if "matte" in tensors else None,
            notes=tuple(json.loads(metadata["notes"])),
            digest=metadata["digest"],
            compressed=json.loads(metadata["compressed"]) if "compressed" in metadata else False,
        )


def save_correction(path: Path, correction: Correction | Drag) -> None:
    """Stores a correction beside the keyframes."""
    tensors = {"points": correction.points} if isinstance(correction, Drag) else {"matte": correction.matte}
    _save_given(path, tensors, correction, {"kind": correction.kind.value})


def load_correction(path: Path) -> Correction | Drag:
    """A correction that `save_correction` stored, read-only. Raises PaintoverError as `load_keyframe`."""
    with _named_damage(path):
        tensors, metadata = _load(path)
        if metadata["kind"] == KeyframeKind.DRAG.value:
            return Drag(int(metadata["frame"]), read_only(tensors["points"]), metadata["digest"])
        return Correction(
            frame=int(metadata["frame"]),
            kind=KeyframeKind(metadata["kind"]),
            matte=read_only(tensors["matte"]),
            notes=tuple(json.loads(metadata["notes"])),
            digest=metadata["digest"],
        )


def _save_given(path: Path, tensors: Tensors, given: Keyframe | Correction | Drag, metadata: dict[str, str]) -> None:
    """Stores what an artist gave for a frame. metadata: beside what keyframes and corrections share."""
    shared = {"frame": str(given.frame), "digest": given.digest, "notes": json.dumps(list(given.notes))}
    partial = path.with_suffix(".partial")
    _save(tensors, partial, {**shared, **metadata, CHECKSUM: _checksum(tensors)})
    replace_file(partial, path)


@contextlib.contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (_Damaged, KeyError, ValueError) as error:
        raise PaintoverError(
            Code.DATA_LOSS, f"The keyframe {path} was damaged on disk; put the picture again, then retry the job."
        ) from error


class _Damaged(Exception):
    """A file is not what was written."""


def _checksum(tensors: Tensors) -> str:
    """SHA-256 of the tensors' names, types, shapes and samples, in hex."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        found.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _load(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """A file's tensors and metadata. The checksum is checked at the first reading in a process that did not write them;
    a file of a version that wrote none is taken as it is."""
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise _Damaged(" ".join(str(error).split())) from error
    version = _version(path)
    if version not in _undamaged:
        if metadata.get(CHECKSUM, "") not in ("", _checksum(tensors)):
            raise _Damaged("its checksum is wrong")
        _undamaged.add(version)
    return tensors, metadata


def _version(path: Path) -> tuple[str, int, int]:
    """A file's path, modification time and size."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def _save(tensors: Tensors, path: Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file; OSError where the disk fails (safetensors has its number only in the message)."""
    try:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata=metadata)
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path.parent)) from error
        raise
