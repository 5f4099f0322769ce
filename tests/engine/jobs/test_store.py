from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import Keyframe
from paintover_engine.methods.stage import ResultFrame
from safetensors.numpy import save_file

STAGE, RESULT = "1" * 64, "2" * 64
"""The keys of a stage with tensors and of one that publishes."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return Store(folder)


def test_tensors_are_read_as_written(store: Store) -> None:
    tensors = {"flow": np.arange(12, dtype=np.int16).reshape(2, 3, 2), "cut": np.array([True])}
    outputs.save_tensors(store, STAGE, tensors)
    loaded = outputs.load_tensors(store, STAGE)
    assert set(loaded) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(loaded[name], value)


def test_frame_can_be_mapped_at_its_offset(store: Store) -> None:
    painted = np.random.default_rng(1).random((3, 5, 4)).astype(np.float16)
    empty = np.zeros((0, 0, 4), np.float16)
    frames = [ResultFrame(7, (2, 1, 5, 3), painted, 0.75), ResultFrame(8, (0, 0, 0, 0), empty, 0.0)]
    outputs.save_frames(store, RESULT, frames, (64, 48))
    stored, nothing = store.frames(RESULT)
    assert (stored.number, stored.bounds, stored.size, stored.confidence) == (7, (2, 1, 5, 3), (64, 48), 0.75)
    with open(stored.path, "rb") as file:
        file.seek(stored.offset)
        assert file.read() == painted.tobytes()
    assert stored.length == painted.nbytes
    np.testing.assert_array_equal(outputs.load_painted(stored), painted)
    assert nothing.length == 0
    assert outputs.load_painted(nothing).shape == (0, 0, 4)


def test_failed_output_leaves_nothing(store: Store) -> None:
    def frames() -> object:
        yield ResultFrame(0, (0, 0, 1, 1), np.zeros((1, 1, 4), np.float16), 1.0)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        outputs.save_frames(store, RESULT, frames(), (1, 1))  # type: ignore[arg-type]
    assert not store.has(RESULT, publishes=True)
    assert list(store.folder.temporary.iterdir()) == []


def test_concurrent_writers_publish_one_output(store: Store) -> None:
    with store.writing(STAGE, publishes=False) as late:
        outputs.save_tensors(store, STAGE, {"a": np.ones(1)})
        (late / "tensors.safetensors").write_bytes(b"later")
    assert outputs.load_tensors(store, STAGE)["a"] == 1


def test_partial_outputs_are_cleared_at_start(store: Store) -> None:
    (store.folder.temporary / "half").mkdir()
    (store.folder.temporary / "half" / "x").write_text("x")
    (store.folder.temporary / "picture").write_text("x")
    store.clear_temporary()
    assert list(store.folder.temporary.iterdir()) == []


def other(number: int) -> str:
    return f"{number:064x}"


def test_output_of_one_name_is_linked_not_copied(store: Store) -> None:
    outputs.save_tensors(store, other(1), {"matte": np.ones((64, 64), np.float32)})
    store.remember("ab" * 32, other(1))
    assert store.find_again("ab" * 32, other(2))
    np.testing.assert_array_equal(outputs.load_tensors(store, other(2))["matte"], 1)
    (mine,), (theirs,) = (store.path(other(n), publishes=False).iterdir() for n in (1, 2))
    assert mine.samefile(theirs)
    store.remove(other(1), publishes=False)
    assert outputs.load_tensors(store, other(2))["matte"].sum() == 64 * 64


def test_unknown_or_evicted_name_finds_nothing(store: Store) -> None:
    assert not store.find_again("ab" * 32, other(2))
    outputs.save_tensors(store, other(1), {"matte": np.ones(3)})
    store.remember("ab" * 32, other(1))
    store.remove(other(1), publishes=False)
    assert not store.find_again("ab" * 32, other(2))
    assert not store.has(other(2), publishes=False)
    assert not list(store.folder.temporary.iterdir())


def test_tensors_are_copied_without_hard_links(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refused)
    outputs.save_tensors(store, other(1), {"matte": np.ones(3)})
    store.remember("ab" * 32, other(1))
    assert store.find_again("ab" * 32, other(2))
    np.testing.assert_array_equal(outputs.load_tensors(store, other(2))["matte"], 1)


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    written = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(written, written + 1))  # however coarse the file system's clock is


@pytest.mark.parametrize("damage", [flip_last_byte, lambda path: path.write_bytes(path.read_bytes()[:-3])])
def test_damaged_tensors_are_removed(store: Store, damage: Callable[[Path], None]) -> None:
    outputs.save_tensors(store, STAGE, {"flow": np.arange(12.0)})
    damage(store.path(STAGE, publishes=False) / "tensors.safetensors")
    with pytest.raises(outputs.OutputDamaged) as caught:
        outputs.load_tensors(store, STAGE)
    assert caught.value.code is Code.UNAVAILABLE  # the job that needs them computes them again
    assert not store.has(STAGE, publishes=False)


def test_what_was_just_written_is_not_checked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs.save_tensors(store, STAGE, {"flow": np.arange(12.0)})
    monkeypatch.setattr(outputs, "_checksum", lambda tensors: pytest.fail("read from memory to be checked"))
    np.testing.assert_array_equal(outputs.load_tensors(store, STAGE)["flow"], np.arange(12.0))


def test_removed_output_is_to_be_computed_again(store: Store) -> None:
    """As by another worker that found it damaged, or by hand."""
    with pytest.raises(outputs.OutputDamaged, match="gone from the disk"):
        outputs.load_tensors(store, STAGE)


def test_tensors_without_a_checksum_are_read(store: Store) -> None:
    with store.writing(STAGE, publishes=False) as folder:
        save_file({"flow": np.arange(12.0)}, folder / "tensors.safetensors")
    np.testing.assert_array_equal(outputs.load_tensors(store, STAGE)["flow"], np.arange(12.0))


def test_damaged_checkpoint_is_dropped(store: Store) -> None:
    outputs.save_checkpoint(store, STAGE, {"state": np.arange(12.0)})
    (path,) = store.folder.cache.rglob("checkpoint.safetensors")
    flip_last_byte(path)
    assert outputs.load_checkpoint(store, STAGE) is None
    assert not path.exists()


def test_damaged_frame_is_removed(store: Store) -> None:
    painted = np.ones((3, 5, 4), np.float16)
    outputs.save_frames(store, RESULT, [ResultFrame(7, (0, 0, 5, 3), painted, 1.0)], (8, 8))
    outputs.check_frame(store, store.frame(RESULT, 7))
    flip_last_byte(store.frame(RESULT, 7).path)
    with pytest.raises(outputs.OutputDamaged, match="frame 7"):
        outputs.check_frame(store, store.frame(RESULT, 7))
    assert not store.has(RESULT, publishes=True)


def test_damaged_keyframe_is_a_sentence(store: Store) -> None:
    path = store.folder.keyframes / "ab.safetensors"
    outputs.save_keyframe(path, Keyframe(3, np.ones((2, 2, 3), np.float32), None, ("note",), "ab"))
    assert outputs.load_keyframe(path).notes == ("note",)
    flip_last_byte(path)
    with pytest.raises(PaintoverError, match="put the picture again") as caught:
        outputs.load_keyframe(path)
    assert caught.value.code is Code.DATA_LOSS
