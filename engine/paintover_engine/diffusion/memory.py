"""What the model's work takes in memory, from the shapes alone, and how it is done in less.

The networks run once on tensors without contents ("meta"), and what is alive at each moment is added up: the figure is
what PyTorch allocates, kernels' work space apart, which `RESERVE` stands for.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from paintover_engine.diffusion import accelerators
from paintover_engine.errors import Code, PaintoverError

log = logging.getLogger(__name__)

Result = TypeVar("Result")

GB = 10**9
RESERVE = 1.2
"""Bytes taken for each byte counted: kernels' work space and what an allocator cannot fill."""


CUDA_BASE = 0.6 * GB
"""Bytes that a CUDA program takes before its first tensor; already subtracted from the free memory that a GPU
reports."""


@dataclass(frozen=True)
class Tier:
    """How much is held at once.

    offload: only the network at work is on the device, the others wait in the computer's memory.
    batched: guidance's two items go through the network together.
    decode_frames, encode_frames: frames that the VAE decodes and encodes at once.
    share: of the pictures that a model of single pictures takes at once where memory is plenty.
    streamed: a network's blocks are on the device one by one. tiled: the VAE works on parts of a picture."""

    name: str
    offload: bool
    batched: bool
    encode_frames: int
    decode_frames: int
    share: float
    streamed: bool = False
    tiled: bool = False


TIERS = (
    Tier("32 GB", offload=False, batched=True, encode_frames=4, decode_frames=14, share=1),
    Tier("24 GB", offload=True, batched=True, encode_frames=4, decode_frames=14, share=1 / 2),
    Tier("16 GB", offload=False, batched=True, encode_frames=2, decode_frames=7, share=1 / 4),
    Tier("12 GB", offload=True, batched=True, encode_frames=2, decode_frames=7, share=1 / 8),
    Tier("8 GB", offload=True, batched=False, encode_frames=1, decode_frames=4, share=0),
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


class Tiered:
    """Networks that work on a device, in smaller pieces when memory runs out.

    parts: the networks that work together, by name. tier: how much is held at once, of `tiers`, from the best to the
    smallest. notes: what happened to memory, in sentences for the user."""

    def __init__(
        self, device: torch.device, parts: Mapping[str, Sequence[torch.nn.Module]], tiers: Sequence[Tier] = TIERS
    ) -> None:
        self.device, self.tier = device, tiers[0]
        self._tiers = tiers
        self.notes: list[str] = []
        self._parts = parts

    def weights(self) -> dict[str, int]:
        """Bytes of each part's weights."""
        return {part: sum(map(weight_bytes, modules)) for part, modules in self._parts.items()}

    def free(self) -> float | None:
        """Bytes that the networks may take on their device, with what they take there already; None where unknown."""
        available = accelerators.of(self.device).available(self.device)
        own = sum(self.weights().values()) if self.device.type == "cpu" else 0
        return None if available is None else available + own

    def persist(self, work: Callable[[], Result]) -> Result:
        """Does some work, and again in the next smaller tier whenever memory runs out.

        Raises PaintoverError where it runs out in the smallest tier, and as `gpu` does."""
        while True:
            with gpu():
                try:
                    return work()
                except RuntimeError as error:
                    if not _is_lack_of_memory(error):
                        raise
            self._shrink()  # only here, where the failed call's tensors are let go

    def _held(self, part: str, work: Callable[[], Result]) -> Result:
        """Does some work with a part on the device, as `persist` does."""

        def brought() -> Result:
            self._bring(part)
            return work()

        return self.persist(brought)

    def _bring(self, part: str) -> None:
        for name, modules in self._parts.items():
            device = self.device if name == part or not self.tier.offload else torch.device("cpu")
            for module in modules:
                tensors = itertools.chain(module.parameters(), module.buffers())
                if any(tensor.device != device for tensor in tensors):  # all: memory may have run out in between
                    module.to(device)

    def _shrink(self) -> None:
        """Drops one tier. Raises PaintoverError in the last."""
        place, whose = self._tiers.index(self.tier) + 1, owner(self.device)
        if place == len(self._tiers):
            raise PaintoverError(
                Code.RESOURCE_EXHAUSTED,
                f"{whose} memory ran out in the smallest tier too; close other programs, or lower the working size, "
                "and retry: finished stages are kept.",
            )
        self.tier = self._tiers[place]
        note = f"{whose} memory ran out; going on in the tier for {self.tier.name}."
        self.notes.append(note)
        log.warning(note)
        gc.collect()
        accelerators.of(self.device).release()


_broken = ""
"""How the GPU failed in this process."""


@contextlib.contextmanager
def gpu() -> Iterator[None]:
    """Around work on a GPU: raises PaintoverError with one sentence where it fails.

    A failure leaves CUDA unusable in its process. So what comes here next ends the process: the engine starts another
    worker, which goes on from the last finished stage."""
    global _broken
    if _broken:
        raise SystemExit(f"The GPU failed: {_broken}.")
    try:
        yield
    except RuntimeError as error:
        if _is_lack_of_memory(error) or not _is_failure_of_the_gpu(error):
            raise
        _broken = first_line(error)
        if "no kernel image" in _broken:
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                "The installed PyTorch was not built for this GPU; install one that was, or hide the GPU from the "
                "engine (CUDA_VISIBLE_DEVICES=).",
            ) from error
        raise PaintoverError(
            Code.UNAVAILABLE,
            f"The GPU failed ({_broken}); if it does so again, restart the computer or renew the GPU's driver, and "
            "retry: finished stages are kept.",
        ) from error


def _is_lack_of_memory(error: RuntimeError) -> bool:
    """The allocator's, the driver's, cuBLAS's and cuDNN's, and the CPU's ways to say so."""
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _is_failure_of_the_gpu(error: RuntimeError) -> bool:
    return isinstance(error, torch.AcceleratorError) or str(error).startswith(
        ("CUDA error", "cuDNN error", "HIP error", "MPS backend")
    )


def owner(device: torch.device) -> str:
    """Whose memory a device's is, at the beginning of a sentence."""
    return accelerators.of(device).owner


def first_line(error: Exception) -> str:
    """The first line of a library's error, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def live_bytes(work: Callable[[], Any]) -> int:
    """The most bytes of tensors that are alive at once while `work` runs, without those that existed before."""
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
        output = func(*args, **(kwargs or {}))
        for storage in _storage_objects(output):
            key = storage._cdata
            if key not in self._known and key not in before:
                self._known.add(key)
                size = storage.nbytes()
                self._now += size
                self.peak = max(self.peak, self._now)
                weakref.finalize(storage, self._gone, key, size)
        return output

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


class _FusedAttention(TorchFunctionMode):
    """Attention as fused kernels do it: no map of it in memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            query, _, value = args[:3] if args else (kwargs[name] for name in ("query", "key", "value"))
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
