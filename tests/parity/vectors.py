"""The reference vectors (README.md), and the measure by which results are compared with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FOLDER = Path(__file__).resolve().parent
TINY_SVD, TINY_INPAINT = FOLDER / "tiny-svd", FOLDER / "tiny-inpaint"

Vectors = Mapping[str, NDArray[Any]]


def vectors(name: str) -> Vectors:
    """The arrays of a file beside this one."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def tensor(array: NDArray[Any]) -> Tensor:
    """A float32 copy."""
    return torch.from_numpy(np.array(array, np.float32))


def pictures(frames: NDArray[np.uint8]) -> Tensor:
    """(F, 3, H, W) in -1..1 of (F, H, W, 3) in 0..255."""
    return tensor(frames).permute(0, 3, 1, 2) / 127.5 - 1


def assert_close(result: Any, reference: NDArray[Any], tolerance: float) -> None:
    """tolerance: of the largest absolute difference, as a share of the reference's largest absolute value."""
    actual = np.asarray(result.detach() if isinstance(result, Tensor) else result, np.float64)
    assert actual.shape == reference.shape
    assert np.isfinite(actual).all()
    error = np.abs(actual - reference.astype(np.float64)).max() / np.abs(reference).max()
    assert error <= tolerance


def assert_levels_close(results: Iterable[Any], references: NDArray[Any], tolerance: float) -> None:
    """The same for each level of a trajectory, levels on the first axis."""
    for result, reference in zip(results, references, strict=True):
        assert_close(result, reference, tolerance)
