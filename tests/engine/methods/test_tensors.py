from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from paintover_engine.methods.tensors import from_tensors, to_tensors


@dataclass(frozen=True)
class Layers:
    weights: tuple[NDArray[np.float32], ...]
    named: Mapping[str, NDArray[np.float16]]


@dataclass(frozen=True)
class Learned:
    matte: NDArray[np.uint8]
    grade: bool
    count: int
    firm: float
    layers: Layers | None
    offset: NDArray[np.int16] | None


MATTE, WEIGHT, NAMED = np.arange(6, dtype=np.uint8), np.ones((2, 3), np.float32), np.zeros(2, np.float16)


def test_every_kind_of_field_survives() -> None:
    given = Learned(MATTE, True, -3, 0.1, Layers((WEIGHT, 2 * WEIGHT), {"a.b": NAMED}), None)
    tensors = to_tensors(given)
    assert set(tensors) == {
        "matte", "grade", "count", "firm", "layers.weights.0", "layers.weights.1", "layers.named.a.b"
    }  # fmt: skip
    read = from_tensors(Learned, tensors)
    assert (read.grade, read.count, read.firm, read.offset) == (True, -3, float(np.float32(0.1)), None)
    assert read.layers is not None
    for one, other in zip((WEIGHT, 2 * WEIGHT, NAMED), (*read.layers.weights, read.layers.named["a.b"]), strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_an_absent_dataclass_is_none() -> None:
    read = from_tensors(Learned, to_tensors(Learned(MATTE, False, 0, 0.0, None, MATTE.astype(np.int16))))
    assert read.layers is None
    assert read.offset is not None and read.offset.dtype == np.int16


def test_a_missing_tensor_is_an_error() -> None:
    tensors = to_tensors(Learned(MATTE, False, 0, 0.0, None, None))
    del tensors["matte"]
    with pytest.raises(KeyError, match="matte"):
        from_tensors(Learned, tensors)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="grade is a str"):
        to_tensors(Learned(MATTE, "yes", 0, 0.0, None, None))  # type: ignore[arg-type]
