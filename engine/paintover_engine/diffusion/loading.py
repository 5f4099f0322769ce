"""Networks, tokenizers and schedules out of a model's folder. Nothing is ever downloaded, and no pickle is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from safetensors import SafetensorError
from transformers import CLIPTokenizer

from paintover_engine.diffusion import weights
from paintover_engine.diffusion.memory import first_line
from paintover_engine.errors import Code, PaintoverError


def network(kind: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One network of a pipeline, for inference. kind: its class, of diffusers or transformers. part: its folder in
    `folder`. Raises PaintoverError for a damaged one, or one of pickled weights."""
    place = folder / part
    try:
        weights.require_safetensors(place)
        with quiet():
            loaded = kind.from_pretrained(
                place,
                torch_dtype=dtype,
                variant=weights.variant(place, half=dtype != torch.float32),
                use_safetensors=True,
                local_files_only=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _damaged(folder, part, error) from error
    return loaded.eval().requires_grad_(False)


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A pipeline's tokenizer. Raises PaintoverError for a damaged or missing one."""
    weights.require_tokenizer(folder / "tokenizer")
    try:
        loaded: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises Exception itself for a damaged file
        raise _damaged(folder, "tokenizer", error) from error
    return loaded


def configured(kind: Any, folder: Path, part: str) -> Any:
    """A part of a pipeline that has no weights, of transformers' class `kind`. Raises PaintoverError for a damaged or
    missing one."""
    try:
        return kind.from_pretrained(folder / part, local_files_only=True)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise _damaged(folder, part, error) from error


def diffusion_schedule(folder: Path) -> Any:
    """A pipeline's noise schedule, a DDIMScheduler. Raises PaintoverError for a damaged one."""
    try:
        return DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise _damaged(folder, "scheduler", error) from error


def _damaged(folder: Path, part: str, error: Exception) -> PaintoverError:
    return PaintoverError(
        Code.FAILED_PRECONDITION, f"The model folder {folder} is damaged ({part}: {first_line(error)}); get it again."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars: a worker has nobody to show them to."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
