"""A prompt's embeddings for Wan, by its text encoder, umT5 (Chung et al.: UniMax, ICLR 2023).

The encoder has 5.7 billion weights: it is loaded for one prompt and let go, and what it returns is stored."""

from __future__ import annotations

import html
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, UMT5EncoderModel

from paintover_engine.diffusion import accelerators, loading
from paintover_engine.diffusion.memory import RESERVE, Tiered, weight_bytes
from paintover_engine.diffusion.models import wan_layout
from paintover_engine.diffusion.wan_memory import TEXT_TOKENS, TIERS


class TextModel(Tiered):
    """A Wan model's text encoder, for one prompt. In a folder without one, prompts say nothing: its model was trained
    so."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._layout = wan_layout(folder)
        self._encoder = self._tokenizer = None
        if "text_encoder" in self._layout.parts:
            self._tokenizer = loading.configured(AutoTokenizer, folder, "tokenizer")
            self._encoder = loading.network(UMT5EncoderModel, folder, "text_encoder", dtype)
        super().__init__(device, {"text_encoder": [self._encoder] if self._encoder else []}, TIERS)
        free = self.free()
        if self._encoder and free is not None and RESERVE * weight_bytes(self._encoder) > free:
            self.device = torch.device("cpu")

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """(tokens, width) float32: the embeddings of a prompt's tokens, at most 512."""
        if self._encoder is None:
            return torch.zeros(1, self._layout.text)
        return self._held("text_encoder", lambda: self._encode(prompt))

    def _encode(self, prompt: str) -> Tensor:
        assert self._tokenizer is not None and self._encoder is not None
        words = " ".join(html.unescape(html.unescape(prompt)).split())  # as Wan's own pipelines clean them
        read = self._tokenizer(words, truncation=True, max_length=TEXT_TOKENS, return_tensors="pt").to(self.device)
        states: Tensor = self._encoder(read.input_ids, read.attention_mask).last_hidden_state
        return states[0].float().cpu()


def padded(embeddings: Tensor) -> Tensor:
    """(1, 512, width): a prompt's embeddings (tokens, width) and zeros, as Wan was trained."""
    return torch.nn.functional.pad(embeddings, (0, 0, 0, TEXT_TOKENS - len(embeddings)))[None]


def load(folder: Path) -> TextModel:
    """The text encoder of a diffusers folder, on the GPU where there is room for it. Raises PaintoverError for a
    damaged folder."""
    chosen = accelerators.best()
    dtype = torch.float32 if chosen.kind == "cpu" else torch.bfloat16
    return TextModel(folder, torch.device(chosen.type), dtype)
