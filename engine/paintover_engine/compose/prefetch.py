"""One step of look-ahead: the next item is computed in a thread while this one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetched(compute: Callable[[int], Item], numbers: Iterable[int]) -> Iterator[Item]:
    """`compute` of each number, in order, the next one in a thread meanwhile: decoding, OpenCV and OpenColorIO release
    Python's lock."""
    with ThreadPoolExecutor(1) as pool:
        ahead: Future[Item] | None = None
        try:
            for number in numbers:
                current, ahead = ahead, pool.submit(compute, number)
                if current:
                    yield current.result()
            if ahead:
                yield ahead.result()
        finally:
            if ahead:
                ahead.cancel()
