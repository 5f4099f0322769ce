"""The simulation of a draft on many cores, on graphs of stages whose makespan is known."""

from __future__ import annotations

import pytest

from benchmarks.makespan import Task, after_preparation, makespan, speedups


def forked(wide: int) -> list[Task]:
    """A stage of 1 s, so many of 2 s that read it, and one of 3 s that reads all of them."""
    return [
        Task("first", 1.0, (), needs_keyframe=False),
        *(Task("wide", 2.0, (0,)) for _ in range(wide)),
        Task("last", 3.0, tuple(range(1, wide + 1))),
    ]


@pytest.mark.parametrize(("workers", "seconds"), [(1, 16.0), (2, 10.0), (4, 8.0), (6, 6.0), (64, 6.0)])
def test_workers_share_what_is_independent(workers: int, seconds: float) -> None:
    assert makespan(forked(6), workers) == seconds


def test_chain_bounds_the_speedup() -> None:
    chain = [Task("chain", 1.0, (place - 1,) if place else ()) for place in range(5)]
    assert makespan(chain, 16) == makespan(chain, 1) == 5.0


def test_prepared_stages_take_no_time_later() -> None:
    assert makespan(after_preparation(forked(2)), 2) == 5.0
    assert "| all | 8.00 | 6.00 |" in "\n".join(speedups(forked(2)))
