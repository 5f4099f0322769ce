from __future__ import annotations

from collections import Counter

import pytest
from paintover_engine.methods.windows import Grid

LENGTHS = [1, 2, 13, 14, 15, 27, 28, 100]


@pytest.mark.parametrize("length", [14, 6])
@pytest.mark.parametrize("count", LENGTHS)
def test_every_frame_is_written_by_one_window(count: int, length: int) -> None:
    grid = Grid(1001, 1000 + count, length)
    for key in range(1001, 1001 + count):
        known, written = {key}, Counter({key: 1})
        for end in (1000 + count, 1001):
            for window in grid.walk(key, end):
                assert len(window.frames) == length
                assert window.anchor in known
                numbers = range(window.written[0], window.written[1] + 1)
                assert [window.frames[index] for index in window.indices()] == list(numbers)
                known.update(numbers)
                written.update(numbers)
        assert written == Counter(range(1001, 1001 + count))


@pytest.mark.parametrize("count", LENGTHS[1:])
def test_keyframe_adds_at_most_one_window_a_side(count: int) -> None:
    grid = Grid(0, count - 1, 14)
    prepared = {window.frames for window in grid.windows()}
    for key in range(count):
        for end in (0, count - 1):
            assert sum(window.frames not in prepared for window in grid.walk(key, end)) <= 1
    for end, key in ((count - 1, 0), (0, count - 1)):
        assert all(window.frames in prepared for window in grid.walk(key, end))


@pytest.mark.parametrize("count", LENGTHS)
def test_chunks_hold_every_frame_once(count: int) -> None:
    held = [n for first, last in Grid(7, 6 + count, 14).chunks() for n in range(first, last + 1)]
    assert held == list(range(7, 7 + count))


def test_neighbouring_windows_share_one_frame() -> None:
    walked = list(Grid(0, 39, 14).walk(0, 39))
    assert [(w.frames[0], w.frames[-1]) for w in walked] == [(0, 13), (13, 26), (26, 39)]


def test_short_last_window_is_moved_back() -> None:
    last = list(Grid(0, 41, 14).walk(0, 41))[-1]
    assert (last.frames[0], last.frames[-1], last.written) == (28, 41, (40, 41))


def test_short_shot_is_reflected_at_its_end() -> None:
    (window,) = Grid(5, 8, 6).walk(5, 8)
    assert window.frames == (5, 6, 7, 8, 7, 6)
    assert window.written == (6, 8)
    (back,) = Grid(5, 6, 6).walk(6, 5)
    assert back.frames == (6, 5, 6, 5, 6, 5)


def test_windows_before_the_keyframe_run_backwards() -> None:
    (window,) = Grid(0, 13, 14).walk(13, 0)
    assert window.frames == tuple(range(13, -1, -1))
    assert window.written == (0, 12)


def test_walk_ends_at_the_next_keyframe() -> None:
    walked = list(Grid(0, 99, 14).walk(20, 30))
    assert walked[0].anchor == 20
    assert walked[-1].written[1] == 30
    assert not list(Grid(0, 99, 14).walk(20, 20))
