"""Stages' outputs as named tensors: what is written to disk and read back.

An output is a frozen dataclass. Its fields are arrays; numbers, stored as arrays of one element (bool as uint8, int as
int64, float as float32); mappings of names to arrays and tuples of arrays, stored as "field.name" and "field.0", …; and
dataclasses of such fields, stored as "field.inner". A field that is None is stored as nothing, and is read back as None
where its type allows it.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Output = TypeVar("Output")

_SCALARS: dict[type, type] = {bool: np.uint8, int: np.int64, float: np.float32}


def to_tensors(output: Any) -> dict[str, NDArray[Any]]:
    """The tensors of an output. Raises TypeError for a field of a type that is not listed above."""
    if not dataclasses.is_dataclass(output):
        return dict(output)  # a mapping is its own tensors
    tensors: dict[str, NDArray[Any]] = {}
    for field in dataclasses.fields(output):
        tensors |= _flattened(field.name, getattr(output, field.name))
    return tensors


def from_tensors(kind: type[Output], tensors: Mapping[str, NDArray[Any]]) -> Output:
    """The output of a dataclass `kind` that `to_tensors` flattened. Raises KeyError where a tensor is missing."""
    if not dataclasses.is_dataclass(kind):
        return typing.cast("Output", tensors)
    read = {name: _restored(type_, optional, name, tensors) for name, type_, optional in _fields(kind)}
    return typing.cast("Output", kind(**read))


def _flattened(name: str, value: Any) -> dict[str, NDArray[Any]]:
    if value is None:
        return {}
    if isinstance(value, np.ndarray):
        return {name: value}
    if type(value) in _SCALARS:
        return {name: np.array([value], _SCALARS[type(value)])}
    if dataclasses.is_dataclass(value):
        value = to_tensors(value)
    elif isinstance(value, tuple):
        value = {str(index): element for index, element in enumerate(value)}
    if isinstance(value, Mapping):
        return {f"{name}.{inner}": array for inner, array in value.items()}
    raise TypeError(f"{name} is a {type(value).__name__}, which no tensor holds")


def _restored(kind: Any, optional: bool, name: str, tensors: Mapping[str, NDArray[Any]]) -> Any:
    prefix = f"{name}."
    inner = {key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)}
    if optional and name not in tensors and not inner:
        return None
    if dataclasses.is_dataclass(kind):
        return from_tensors(typing.cast("type[Any]", kind), inner)
    if kind is tuple:
        return tuple(inner[str(index)] for index in range(len(inner)))
    if kind is dict:
        return inner
    return kind(tensors[name][0]) if kind in _SCALARS else tensors[name]


@functools.cache
def _fields(kind: type[Any]) -> list[tuple[str, Any, bool]]:
    """Of each field its name, its type (a scalar's, a dataclass, tuple, dict, or np.ndarray), and whether it may be
    None."""
    hints = typing.get_type_hints(kind)
    found = []
    for field in dataclasses.fields(kind):
        hint, optional = hints[field.name], False
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            (hint,) = (choice for choice in typing.get_args(hint) if choice is not type(None))
            optional = True
        origin = typing.get_origin(hint) or hint
        found.append((field.name, dict if origin in (dict, Mapping) else origin, optional))
    return found
