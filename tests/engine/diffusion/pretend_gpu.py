"""A GPU that is not there: tensors that say they are on one, compute on the CPU in their own dtype, and refuse what a
GPU refuses.

    with pretend_gpu.present("cuda", free=8 * GB) as device:
        x = model(torch.zeros(1, 3, 8, 8, device="cuda"))   # x.device is cuda:0

Refused are: two devices in one operation (single numbers aside), indices on the GPU for a tensor on the CPU, a CPU
generator for a draw on the GPU, NumPy of a GPU tensor, and on "mps" float64. Gradients cannot be had: PyTorch's engine
asks the driver for a stream. Modules are to be loaded before and moved inside.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

GB = 10**9
aten = torch.ops.aten
_INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
_COPIES = {aten._to_copy.default, aten.copy_.default}
_TO_PYTHON = {aten._local_scalar_dense.default, aten.equal.default}


class Misplaced(RuntimeError):
    """What a GPU would refuse."""


class _OnDevice(torch.Tensor):
    """data: the tensor on the CPU that stands for one on the device."""

    data_on_cpu: torch.Tensor

    @staticmethod
    def __new__(cls, data: torch.Tensor, device: torch.device) -> _OnDevice:
        shell: _OnDevice = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, data.size(), strides=data.stride(), storage_offset=data.storage_offset(), dtype=data.dtype,
            layout=data.layout, device=device,
        )  # fmt: skip
        shell.data_on_cpu = data
        return shell

    def __tensor_flatten__(self) -> tuple[list[str], torch.device]:
        """Makes it one of those that `Module.to` exchanges for a parameter."""
        return ["data_on_cpu"], self.device

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, torch.Tensor], device: torch.device, *_: Any) -> _OnDevice:
        return _OnDevice(parts["data_on_cpu"], device)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{self.data_on_cpu!r} on {self.device}"

    def numpy(self, **_: Any) -> Any:  # type: ignore[override]
        raise Misplaced(f"NumPy of a tensor on {self.device}")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise Misplaced(f"{func} on a tensor of a device that is gone")


@dataclass
class Device:
    """kind: of the pretended device. operations: done on it that take memory. fails: those at which it runs out."""

    kind: str
    operations: int = 0
    fails: set[int] = field(default_factory=set)
    failed: int = 0

    @property
    def device(self) -> torch.device:
        return torch.device(self.kind, 0)


class _Dispatch(TorchDispatchMode):
    def __init__(self, pretended: Device) -> None:
        super().__init__()
        self._pretended = pretended

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._fused_sdp_choice.default:
            return 0  # the plain attention
        given = kwargs or {}
        leaves = list(_leaves((*args, *given.values())))
        placed = [leaf for leaf in leaves if isinstance(leaf, _OnDevice)]
        self._refuse(func, args, given, leaves, bool(placed))
        to_device = self._result_is_on_device(func, args, given, bool(placed))
        if to_device and not _returns_an_argument(func):
            self._count()
        output = func(*map(_cpu, args), **{name: self._cpu_option(value) for name, value in given.items()})
        if func in _TO_PYTHON or not to_device:
            return output
        wrapped = tree_map(self._wrap, output)
        if not placed or func is aten._to_copy.default or not _returns_an_argument(func):
            return wrapped
        return return_and_correct_aliasing(func, args, given, wrapped)

    def _refuse(self, func: Any, args: Any, given: Any, leaves: list[Any], placed: bool) -> None:
        if placed and func in _INDEXING and not isinstance(args[0], _OnDevice):
            raise Misplaced(f"{func}: indices or values on the device for a tensor on the CPU")
        if placed and func not in _INDEXING | _COPIES:
            for leaf in leaves:
                if isinstance(leaf, torch.Tensor) and not isinstance(leaf, _OnDevice) and leaf.dim():
                    raise Misplaced(f"{func}: one tensor on the device, one {tuple(leaf.shape)} on the CPU")
        generator = given.get("generator")
        if generator is not None and generator.device.type == "cpu" and self._is_here(given.get("device")):
            raise Misplaced(f"{func}: a draw on the device with a generator of the CPU")
        if self._pretended.kind == "mps" and self._result_is_on_device(func, args, given, placed):
            dtypes = [
                given.get("dtype"),
                *(leaf.dtype for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim()),
            ]
            if torch.float64 in dtypes:
                raise Misplaced(f"{func}: MPS has no float64")

    def _result_is_on_device(self, func: Any, args: Any, given: Any, placed: bool) -> bool:
        if func is aten.copy_.default:
            return isinstance(args[0], _OnDevice)
        wanted = given.get("device")
        return placed if wanted is None else self._is_here(wanted)

    def _is_here(self, device: Any) -> bool:
        return device is not None and torch.device(device).type == self._pretended.kind

    def _count(self) -> None:
        self._pretended.operations += 1
        if self._pretended.operations in self._pretended.fails:
            self._pretended.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def _cpu_option(self, value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu") if self._is_here(value) else value
        return _cpu(value)

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and not isinstance(value, _OnDevice):
            return _OnDevice(value, self._pretended.device)
        return value


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _leaves(value)
        else:
            yield value


@functools.cache
def _returns_an_argument(func: Any) -> bool:
    """Whether an operation's result is, or views, what it is given."""
    return any(result.alias_info is not None for result in func._schema.returns)


def _cpu(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_cpu, value))
    return value.data_on_cpu if isinstance(value, _OnDevice) else value


@contextlib.contextmanager
def present(kind: str = "cuda", total: int = 24 * GB, free: int = 22 * GB) -> Iterator[Device]:
    """Pretends one GPU of a kind of PyTorch's, "cuda" or "mps"."""
    pretended = Device(kind)
    with contextlib.ExitStack() as stack:
        for name, answer in _answers(kind, total, free).items():
            stack.enter_context(mock.patch(f"torch.{name}", answer, create=True))
        for name in ("tensor", "as_tensor"):
            stack.enter_context(mock.patch.object(torch, name, _made_on_the_cpu(getattr(torch, name), pretended)))
        stack.enter_context(_Dispatch(pretended))
        yield pretended


def random_operations(count: int, below: int, seed: int) -> set[int]:
    """Some different numbers of operations, at which memory is to run out."""
    return set(random.Random(seed).sample(range(1, below), count))


def _answers(kind: str, total: int, free: int) -> dict[str, Callable[..., Any]]:
    if kind == "mps":
        return {
            "cuda.is_available": lambda: False,
            "backends.mps.is_available": lambda: True,
            "mps.recommended_max_memory": lambda: total,
            "mps.driver_allocated_memory": lambda: total - free,
            "mps.empty_cache": lambda: None,
        }
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    return {
        "cuda._lazy_init": lambda: None,
        "cuda.is_available": lambda: True,
        "cuda.device_count": lambda: 1,
        "cuda.current_device": lambda: 0,
        "cuda.mem_get_info": lambda device=None: (free, total),
        "cuda.get_per_process_memory_fraction": lambda device=None: 1.0,
        "cuda.memory_reserved": lambda device=None: 0,
        "cuda.empty_cache": lambda: None,
        "cuda.get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "cuda.set_rng_state": lambda *_, **__: None,
        "cuda.manual_seed_all": lambda seed: None,
    }


def _made_on_the_cpu(make: Callable[..., Any], pretended: Device) -> Callable[..., Any]:
    """`torch.tensor` and its like ask the driver at once: made on the CPU, then moved."""

    def made(data: Any, *given: Any, device: Any = None, **named: Any) -> Any:
        if isinstance(data, _OnDevice) and device is None:
            return data.to(*given, **named) if given or named else data
        if device is not None and torch.device(device).type == pretended.kind:
            return (data if isinstance(data, _OnDevice) else make(data, *given, **named)).to(device)
        return make(data, *given, **named, **({} if device is None else {"device": device}))

    return made
