"""What a Wan model's folder holds, from its JSON files. Light to import: no torch.

Wan (Alibaba, 2025) comes in layouts that share their classes: 2.1 image-to-video with an image encoder, 2.1 FLF2V that
is given the last frame too, 2.2 A14B with two transformers, of which each works on its own levels of noise, 2.2 TI2V-5B
that reads a clean first frame at level 0, and VACE, which is controlled by a video and a mask.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETWORKS = ("transformer", "transformer_2", "vae", "image_encoder", "text_encoder")
OTHERS = ("scheduler", "image_processor", "tokenizer")

_FRAMES, _SIZE = 81, (832, 480)
_FRAMES_EXPANDED, _SIZE_EXPANDED = 121, (1280, 704)


@dataclass(frozen=True)
class WanLayout:
    """parts: the folders that `model_index.json` names. channels: of latents. condition: the channels that a
    transformer takes beside them: 4 of the mask and the picture's latents, 96 of VACE's control, or 0. shift: of the
    noise levels. boundary: the level from which `transformer` works, `transformer_2` below it; None with one
    transformer. expanded: the first frame is given as clean latents, each token with a level of its own. layers: the
    transformer's blocks that are controlled by VACE. text: channels of a prompt's embeddings. frames, size: (width,
    height) of the pictures, that it was trained on. factor: pixels a latent on either axis; patch: latents a token.
    pictures: how many its image encoder looks at; 0 without one. later: whether it was trained on clips of which more
    frames than the first are given."""

    parts: tuple[str, ...]
    channels: int
    condition: int
    shift: float
    boundary: float | None
    expanded: bool
    layers: tuple[int, ...]
    text: int
    frames: int
    size: tuple[int, int]
    factor: int
    patch: int
    pictures: int
    later: bool


def parts_of(index: dict[str, Any]) -> tuple[str, ...]:
    """The parts that a `model_index.json` says a Wan model has."""
    return tuple(part for part in (*NETWORKS, *OTHERS) if (index.get(part) or [None])[0])


def read_layout(path: Path, settings: dict[str, Any]) -> WanLayout:
    """The layout of a folder. settings: of its `paintover.json`.

    Raises OSError, ValueError, KeyError or TypeError where a file is missing or damaged."""
    index = _read(path / "model_index.json")
    parts = parts_of(index)
    part = "transformer" if "transformer" in parts else "transformer_2"
    transformer, vae, scheduler = (
        _read(path / file) for file in (f"{part}/config.json", "vae/config.json", "scheduler/scheduler_config.json")
    )
    channels, expanded = int(vae.get("z_dim", 16)), bool(index.get("expand_timesteps", False))
    vace = tuple(transformer["vace_layers"]) if "vace_layers" in transformer else ()
    taken = int(transformer.get("in_channels", 16)) - channels
    boundary = index.get("boundary_ratio")
    pictures = 0 if "image_encoder" not in parts else 2 if transformer.get("pos_embed_seq_len") else 1
    width, height = settings.get("size", _SIZE_EXPANDED if expanded else _SIZE)
    return WanLayout(
        parts=parts,
        channels=channels,
        condition=int(transformer.get("vace_in_channels", 96)) if vace else taken,
        shift=float(scheduler.get("flow_shift") or scheduler.get("shift") or 1.0),
        boundary=None if boundary is None else float(boundary),
        expanded=expanded,
        layers=vace,
        text=int(transformer.get("text_dim", 4096)),
        frames=int(settings.get("frames", _FRAMES_EXPANDED if expanded else _FRAMES)),
        size=(int(width), int(height)),
        factor=int(vae.get("scale_factor_spatial") or 8),
        patch=int(transformer.get("patch_size", (1, 2, 2))[1]),
        pictures=pictures,
        later=bool(settings.get("later_frames", pictures == 2 or boundary is not None)) and not (expanded or vace),
    )


def fault(path: Path, layout: WanLayout, kind: str) -> str:
    """Why a folder cannot be computed with; "" where it can. kind: "wan" or "vace"."""
    scheduler = _read(path / "scheduler" / "scheduler_config.json")
    if scheduler.get("prediction_type", "flow_prediction") != "flow_prediction":
        return f"its network predicts '{scheduler['prediction_type']}', not a flow"
    if layout.boundary is not None and not {"transformer", "transformer_2"} <= set(layout.parts):
        return "one of its two transformers is missing"
    if (layout.frames - 1) % 4:
        return f"its windows of {layout.frames} frames are not of 4k + 1"
    if kind == "vace":
        wanted = 2 * layout.channels + layout.factor**2
        return "" if layout.condition == wanted else f"its control has {layout.condition} channels, not {wanted}"
    wanted = 0 if layout.expanded else 4 + layout.channels
    if layout.condition != wanted:
        return f"its network takes {layout.channels + layout.condition} channels, not {layout.channels + wanted}"
    return ""


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
