"""What the trainings of the small models share: their checkpoints, and a step of theirs.

A checkpoint is one safetensors file: tensors of networks, optimisers and the noise generator, and JSON in its header
for all else. Nothing in it is ever executed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Part: TypeAlias = "nn.Module | torch.optim.Optimizer"


class Checkpoint:
    """One file in the run's folder with all that a training needs to go on; written whole or not at all.

    rng, noise: what the training draws from. step: steps done. seconds: that they took in all runs, the pauses between
    them left out. every: seconds between two checkpoints."""

    def __init__(self, path: Path, seed: int, every: float = 60.0, **parts: Part) -> None:
        self._path, self._every, self._parts = path, every, parts
        self.rng, self.noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.step = 0
        self._spent, self._started, self._saved = 0.0, time.monotonic(), time.monotonic()

    @property
    def seconds(self) -> float:
        return self._spent + time.monotonic() - self._started

    def load(self) -> None:
        """Goes back to where the last checkpoint was, where there is one."""
        if not self._path.exists():
            return
        tensors, state = _read(self._path)
        for name, part in self._parts.items():
            own = _under(name, tensors)
            if isinstance(part, nn.Module):
                part.load_state_dict(own)
            else:
                part.load_state_dict({"state": _moments(part, own), "param_groups": state["groups"][name]})
        self.noise.set_state(tensors["noise"])
        self.rng.bit_generator.state = state["rng"]
        self.step, self._spent, self._started = state["step"], state["seconds"], time.monotonic()

    def save(self, now: bool = False) -> None:
        """Keeps the training's state, if it is time."""
        if not now and time.monotonic() - self._saved < self._every:
            return
        tensors = {"noise": self.noise.get_state()}
        groups = {}
        for name, part in self._parts.items():
            state = part.state_dict()
            if isinstance(part, nn.Module):
                own = state
            else:
                own = {f"{n}.{key}": value for n, values in state["state"].items() for key, value in values.items()}
                groups[name] = state["param_groups"]
            tensors |= {f"{name}/{key}": value.contiguous() for key, value in own.items()}
        state = {"step": self.step, "seconds": self.seconds, "rng": self.rng.bit_generator.state, "groups": groups}
        fresh = self._path.with_suffix(".part")
        save_file(tensors, fresh, metadata={"training": json.dumps(state)})
        fresh.replace(self._path)
        self._saved = time.monotonic()


def load_part(path: Path, name: str) -> dict[str, Tensor]:
    """The state of one network of a checkpoint."""
    if not path.exists():
        raise SystemExit(f"{path} is not there: train that part first.")
    return _under(name, _read(path)[0])


def descend(loss: Tensor, *optimisers: torch.optim.Optimizer) -> None:
    """One step of optimisers, the gradients clipped to a norm of 1 over all of them."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([parameter for optimiser in optimisers for parameter in _parameters(optimiser)], 1.0)
    for optimiser in optimisers:
        optimiser.step()


def average(mean: nn.Module, network: nn.Module, share: float) -> None:
    """Moves the running mean of a network's weights towards them by a share of the way."""
    with torch.no_grad():
        torch._foreach_lerp_(list(mean.parameters()), list(network.parameters()), share)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, json.loads(file.metadata()["training"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"{path} is no checkpoint of this training, or damaged; train in another folder.") from error


def _under(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _moments(optimiser: torch.optim.Optimizer, stored: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """An optimiser's state by its parameters' numbers, laid out in memory as the parameters are: what is computed from
    it then rounds as if it had never left."""
    parameters = _parameters(optimiser)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in stored.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)]
        matched = torch.empty_like(like).copy_(value).detach() if value.shape == like.shape else value
        state.setdefault(int(number), {})[name] = matched
    return state
