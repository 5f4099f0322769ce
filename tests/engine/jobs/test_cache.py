from __future__ import annotations

import os
from pathlib import Path

import pytest
from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.store import Store

SIZE = 1000


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path)
    folder.create()
    return folder


def put(folder: DataFolder, key: str, publishes: bool = False, age: float = 0.0) -> Path:
    store = Store(folder)
    with store.writing(key, publishes) as draft:
        (draft / "data").write_bytes(bytes(SIZE))
    path = store.path(key, publishes)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def nothing() -> set[str]:
    return set()


def test_least_recently_used_output_is_evicted_first(folder: DataFolder) -> None:
    paths = [put(folder, f"{n}{n}-stage", age=n) for n in range(4)]
    cache = Cache(folder, budget=2 * SIZE)
    cache.take(cache.scan())
    cache.used(paths[3])
    assert cache.over_budget
    assert cache.evict(cache.budget, set(), nothing) == 2 * SIZE
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert not cache.over_budget


def test_order_of_use_survives_a_restart(folder: DataFolder) -> None:
    paths = [put(folder, f"{n}{n}-stage", age=n) for n in range(3)]
    first = Cache(folder)
    first.take(first.scan())
    first.used(paths[2])
    second = Cache(folder)
    second.take(second.scan())
    second.evict(SIZE, set(), nothing)
    assert [path.exists() for path in paths] == [False, False, True]


def test_needed_outputs_stay_above_the_budget(folder: DataFolder) -> None:
    paths = [put(folder, f"{n}{n}-stage", age=n) for n in range(3)]
    cache = Cache(folder, budget=0)
    cache.take(cache.scan())
    assert cache.evict(0, {"22-stage"}, nothing) == 2 * SIZE
    assert [path.exists() for path in paths] == [False, False, True]


def test_only_orphaned_results_are_evicted(folder: DataFolder) -> None:
    shown, orphan = put(folder, "aa-result", publishes=True), put(folder, "bb-result", publishes=True)
    cache = Cache(folder)
    cache.take(cache.scan())
    usage = cache.usage({"aa-result"})
    assert (usage.results, usage.orphans) == (SIZE, SIZE)
    cache.evict(0, set(), lambda: {"aa-result"})
    assert shown.exists() and not orphan.exists()


def test_clock_set_back_only_changes_the_order(folder: DataFolder) -> None:
    future = put(folder, "aa-stage", age=-1e9)
    past = put(folder, "bb-stage")
    cache = Cache(folder, budget=SIZE)
    cache.take(cache.scan())
    assert cache.evict(SIZE, set(), nothing) == SIZE
    assert future.exists() and not past.exists()


def test_hard_linked_file_counts_once(folder: DataFolder) -> None:
    put(folder, "11-stage")
    store = Store(folder)
    store.remember("name", "11-stage")
    assert store.find_again("name", "22-stage")
    sizes, _ = Cache(folder).scan()
    assert sum(size for path, size in sizes.items() if path.name.endswith("-stage")) == SIZE
