"""Low-rank adapters of a video UNet's temporal blocks: what a window's motion is learned into.

Hu et al.: LoRA, ICLR 2022; placed as in I2VEdit (Ouyang et al., SIGGRAPH Asia 2024): on the linear layers of the
temporal blocks. peft makes and runs the adapters. Ours is that several share a network and that each acts on some items
of a batch only: the edit's items, not the source's.

Weights have peft's own names ("base_model.model.<layer>.lora_A.weight"), so that what a training stage stores is a
peft file as it stands; `save` adds the configuration that `peft.PeftModel.from_pretrained` wants beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

RANK = 32
DROPOUT = 0.1
"""Of an adapter's output, while it is trained."""

Placement = Literal["block", "attention"]

_PREFIX = "base_model.model."


def layers(unet: torch.nn.Module, placement: Placement = "block") -> list[str]:
    """The names of the linear layers that get an adapter.

    placement: "block", all of a temporal block's (the authors' code), or "attention", its self-attention's (their
    paper). Queries and keys of cross-attention get none: to one token, their gradient is 0."""
    parts = {"block": ("attn1.", "attn2.to_v", "attn2.to_out", "ff.", "ff_in."), "attention": ("attn1.",)}[placement]
    names = []
    for name, module in unet.named_modules():
        _, _, inside = name.partition(".temporal_transformer_blocks.")
        if isinstance(module, torch.nn.Linear) and inside.partition(".")[2].startswith(parts):
            names.append(name)
    return names


class Adapters:
    """The adapters on a UNet, by name; `with` takes them all off again at its end.

    training: whether `DROPOUT` applies."""

    def __init__(self, unet: torch.nn.Module, rank: int = RANK, placement: Placement = "block") -> None:
        self._unet = unet
        self._config = _config(layers(unet, placement), rank)
        self._gates: dict[str, Tensor] = {}
        self._trained: str | None = None
        self.training = False

    def __enter__(self) -> Adapters:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self._unet, "peft_config"):
            recurse_remove_peft_layers(self._unet)  # type: ignore[no-untyped-call]
            del self._unet.peft_config

    def add(self, name: str, weights: Mapping[str, Tensor] | None = None, seed: int = 0) -> None:
        """Puts on an adapter that acts nowhere yet: trained weights, or new ones that change nothing (A drawn with
        standard deviation 1/rank, B zero). Weights are float32, on the layers' device."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are meant
            torch.manual_seed(seed)
            inject_adapter_in_model(self._config, self._unet, adapter_name=name)
        if weights is not None:
            named = {key.removeprefix(_PREFIX): value for key, value in weights.items()}
            set_peft_model_state_dict(self._unet, named, adapter_name=name)
        for layer in self._layers():
            base: Any = layer.get_base_layer()
            for part in (layer.lora_A[name], layer.lora_B[name]):
                part.to(base.weight.device, torch.float32)
            layer.lora_B[name].register_forward_hook(self._gate(name))
        self.act({})

    def act(self, gates: Mapping[str, Sequence[float]]) -> None:
        """Sets, from the next call of the network on, each adapter's weight on each item of the batch, 0..1; adapters
        that are not named are off."""
        self._gates = {name: torch.tensor(gate) for name, gate in gates.items() if any(gate)}
        for layer in self._layers():
            layer.enable_adapters(bool(self._gates))
            if self._gates:
                layer.set_adapter(list(self._gates))
        self._require_gradients()

    def train(self, name: str | None) -> list[torch.nn.Parameter]:
        """Makes one adapter's weights require gradients, or with None, none's; returns them."""
        self._trained = name
        self._require_gradients()
        return [weight for adapter, weight in self._weights() if adapter == name]

    def _require_gradients(self) -> None:
        for adapter, weight in self._weights():
            weight.requires_grad_(adapter == self._trained)

    def weights(self, name: str) -> dict[str, Tensor]:
        """An adapter's weights under peft's names."""
        state = get_peft_model_state_dict(self._unet, adapter_name=name)
        return {_PREFIX + key: value.detach() for key, value in state.items()}

    def _gate(self, name: str) -> Any:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            if self.training:
                output = functional.dropout(output, DROPOUT)
            gate = self._gates[name].to(output)
            if bool((self._gates[name] == 1).all()):
                return output
            shares = gate.repeat_interleave(len(output) // len(gate))
            return output * shares.reshape(-1, *[1] * (output.ndim - 1))

        return hook

    def _layers(self) -> Iterator[LoraLayer]:
        return (module for module in self._unet.modules() if isinstance(module, LoraLayer))

    def _weights(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for layer in self._layers():
            for part in (layer.lora_A, layer.lora_B):
                for adapter, linear in part.items():
                    yield adapter, next(linear.parameters())


def save(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes an adapter's weights as a folder that `peft.PeftModel.from_pretrained(unet, folder)` loads:
    adapter_config.json and adapter_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    downs = {key: value for key, value in weights.items() if key.endswith(".lora_A.weight")}
    names = [key.removeprefix(_PREFIX).removesuffix(".lora_A.weight") for key in downs]
    config = _config(names, next(iter(downs.values())).shape[0])
    config.inference_mode = True
    config.save_pretrained(str(folder))
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / "adapter_model.safetensors")


def _config(names: list[str], rank: int) -> LoraConfig:
    """Adapters on the named layers, scaled by 1."""
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=names, lora_dropout=0.0, init_lora_weights="gaussian")
