"""The store on an object store: fsspec's in memory. (tests/journeys/test_object_store.py has S3's protocol.)"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.farm import leases
from paintover_engine.farm.leases import LEASE_SECONDS, Leases, ObjectLeases
from paintover_engine.jobs import object_store, outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.object_store import ObjectStore
from paintover_engine.jobs.objects import Objects, is_url
from paintover_engine.methods.stage import ResultFrame

KEY, OTHER, NAME = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def machine(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ObjectStore]:
    """The store as one machine has it, by the machine's name."""
    monkeypatch.setattr(object_store, "LISTING_SECONDS", 0.0)

    def open_store(name: str) -> ObjectStore:
        folder = DataFolder(tmp_path / name)
        folder.create()
        return ObjectStore(folder, Objects(url))

    return open_store


def frame(value: float) -> ResultFrame:
    return ResultFrame(3, (0, 0, 2, 2), np.full((2, 2, 4), value, np.float16), 0.9)


def test_output_of_one_machine_is_read_by_another(machine: Callable[[str], ObjectStore]) -> None:
    first, second = machine("one"), machine("two")
    assert not second.has(KEY, publishes=False)
    outputs.save_tensors(first, KEY, {"x": np.arange(5)})
    outputs.save_frames(first, OTHER, [frame(0.5)], (2, 2))
    assert second.has(KEY, publishes=False) and second.has(OTHER, publishes=True)
    assert outputs.load_tensors(second, KEY)["x"].tolist() == [0, 1, 2, 3, 4]
    assert [each.number for each in second.frames(OTHER)] == [3]
    assert second.is_undamaged(second.frame(OTHER, 3))


def test_first_of_two_writers_wins(machine: Callable[[str], ObjectStore]) -> None:
    first, second = machine("one"), machine("two")
    with first.writing(KEY, publishes=True) as one, second.writing(KEY, publishes=True) as two:
        (one / "file").write_text("one")
        (two / "file").write_text("two")
    # the inner block ended first
    assert {(store.fetched(KEY, True) / "file").read_text() for store in (first, second, machine("three"))} == {"two"}
    assert len(first.objects.names("outputs")) == 1
    assert len(first.objects.names("parts")) == 1  # what lost is removed


def test_failed_writer_leaves_nothing(machine: Callable[[str], ObjectStore]) -> None:
    store = machine("one")
    with pytest.raises(RuntimeError), store.writing(KEY, publishes=False) as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert not store.has(KEY, publishes=False)
    assert not list(store.folder.temporary.iterdir())


def test_removed_output_is_gone_for_all(machine: Callable[[str], ObjectStore]) -> None:
    first, second = machine("one"), machine("two")
    outputs.save_tensors(first, KEY, {"x": np.arange(5)})
    second.fetched(KEY, publishes=False)
    second.remove(KEY, publishes=False)
    assert not second.has(KEY, publishes=False)
    assert not machine("three").has(KEY, publishes=False)


def test_equal_output_is_found_by_its_name(machine: Callable[[str], ObjectStore]) -> None:
    first, second = machine("one"), machine("two")
    outputs.save_tensors(first, KEY, {"x": np.arange(5)})
    first.remember(NAME, KEY)
    assert not second.find_again("d" * 64, OTHER)
    assert second.find_again(NAME, OTHER)
    assert outputs.load_tensors(machine("three"), OTHER)["x"].tolist() == [0, 1, 2, 3, 4]


def test_lease_in_an_object_store_is_taken_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects(url)
    with Leases(ObjectLeases(objects)) as first, Leases(ObjectLeases(objects)) as second:
        assert first.take("a")
        assert not second.take("a")
        monkeypatch.setattr(leases, "LEASE_SECONDS", -1.0)
        assert second.take("a")
        monkeypatch.setattr(leases, "LEASE_SECONDS", LEASE_SECONDS)
        second.release("a")
        assert first.take("a")
    assert objects.names("leases") == set()


@pytest.mark.parametrize("place", ["nothing://here", "s3x://bucket"])
def test_store_that_nothing_speaks_to_is_a_sentence(place: str) -> None:
    assert is_url(place) and not is_url("/mnt/store") and not is_url("C:\\store")
    with pytest.raises(PaintoverError, match="pip install") as refused:
        Objects(place)
    assert refused.value.code is Code.FAILED_PRECONDITION
