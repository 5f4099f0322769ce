"""What the model's work takes in memory, from the shapes alone, and how it is done in less.

The networks run once on tensors without contents ("meta"), and what is alive at each moment is added up: the figure is
what PyTorch allocates, kernels' work space apart, which `RESERVE` stands for.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GB = 10**9
RESERVE = 1.2
"""Bytes taken for each byte counted: kernels' work space and what an allocator cannot fill."""


CUDA_BASE = 0.6 * GB
"""What a CUDA program takes before its first tensor; already gone from what a GPU says is free."""


@dataclass(frozen=True)
class Tier:
    """How much is held at once.

    offload: only the network at work is on the device, the others wait in the computer's memory.
    batched: guidance's two items go through the network together.
    decode_frames, encode_frames: frames that the VAE decodes and encodes at once."""

    name: str
    offload: bool
    batched: bool
    encode_frames: int
    decode_frames: int


TIERS = (
    Tier("32 GB", offload=False, batched=True, encode_frames=4, decode_frames=14),
    Tier("24 GB", offload=True, batched=True, encode_frames=4, decode_frames=14),
    Tier("16 GB", offload=False, batched=True, encode_frames=2, decode_frames=7),
    Tier("12 GB", offload=True, batched=True, encode_frames=2, decode_frames=7),
    Tier("8 GB", offload=True, batched=False, encode_frames=1, decode_frames=4),
)
"""From the best to the smallest, by the cards that Stable Video Diffusion works on in them: 14 frames of 1024x576 in
half precision."""


@dataclass(frozen=True)
class Needs:
    """Bytes that each network ("unet", "encoder", "decoder", "image_encoder") takes: `weights`, and `work`: what is
    alive at once while it works for one item or frame."""

    weights: Mapping[str, int]
    work: Mapping[str, int]

    def peak(self, tier: Tier) -> int:
        """The most that a tier takes at any moment."""
        counts = {"unet": 1 + tier.batched, "encoder": tier.encode_frames, "decoder": tier.decode_frames}
        resident = 0 if tier.offload else sum(self.weights.values())
        return max(
            (resident or weights) + int(RESERVE * counts.get(part, 1) * self.work.get(part, 0))
            for part, weights in self.weights.items()
        )


def choose(needs: Needs, available: float, tiers: Sequence[Tier] = TIERS) -> Tier | None:
    """The best tier that fits in `available` bytes; None where none does."""
    return next((tier for tier in tiers if needs.peak(tier) <= available), None)


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    tensors: Iterable[Tensor] = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def live_bytes(work: Callable[[], Any]) -> int:
    """The most bytes of tensors that are alive at once while `work` runs, those made before it left out."""
    meter = _Meter()
    with torch.no_grad(), _FusedAttention(), meter:
        work()
    return meter.peak


class _Meter(TorchDispatchMode):
    """Counts the storages that operations make, and notices when they go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = _storages((*args, *(kwargs or {}).values()))
        made = func(*args, **(kwargs or {}))
        for storage in _storage_objects(made):
            key = storage._cdata
            if key not in self._known and key not in before:
                self._known.add(key)
                size = storage.nbytes()
                self._now += size
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._gone, key, size)
        return made

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention as fused kernels do it: no map of it in memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))


def _tensors(values: Any) -> Iterable[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _storage_objects(values: Any) -> list[Any]:
    return [tensor.untyped_storage() for tensor in _tensors(values)]


def _storages(values: Any) -> set[int]:
    return {storage._cdata for storage in _storage_objects(values)}
