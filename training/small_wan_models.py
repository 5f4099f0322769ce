"""The networks of the small Wan model: Wan's own classes, made small, where they start, and their folder.

The layout is 2.2's image-to-video one, without an image encoder and with one transformer: beside the noisy latents, 4
channels say that the first frame is given, and the rest are its latents in a grey clip. It knows no words: prompts are
zeros, and what its cross-attention adds is zero.

The encoder is a fixed linear code: 4x4 pixels, of one frame or of four, to 16 numbers. It is written into the VAE's
layers, so that what a transformer trains on needs no network: `LinearCode.encode` gives the same latents.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from checkpoints import load_part
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from numpy.typing import NDArray
from paintover_evaluation.window_clips import CELL as FACTOR
from paintover_evaluation.window_clips import FRAMES, SIZE
from torch import Tensor, nn

STILL, MOVING = 10, 6
"""Channels of a latent: of the mean of its frames, and of what changes among them."""
CHANNELS, TEXT, SHIFT = STILL + MOVING, 16, 3.0
LATENT_FRAMES, LATENT_SIZE = (FRAMES - 1) // 4 + 1, SIZE // FACTOR

DEFAULTS = {"n_max_share": 0.3, "strength": 0.67, "threshold": 0.1, "rescaling": "none"}
"""What the methods take unasked with this model. Its first latent says nothing of the channels for what moves: their
statistics are not to be matched to it."""

WIDTH = 24
"""Of the encoder: half of the width that it has from the first down-sampling on."""
HALVES = 2 * WIDTH - 1 - 2 * STILL
"""Channels for what changes between neighbouring frames, before it is reduced to `MOVING`."""
LEVEL = 300.0
"""Of the constant channel that keeps the last norm's scale: signals pass it unchanged to 1e-3."""
SOFT_LEVEL = 6.0
"""The same in the decoder, which is trained from there: signals pass to some per cent."""
FINEST = 0.35
"""Deviation of the channels with the least variance; the one with the most has 1."""


@dataclass(frozen=True)
class LinearCode:
    """The encoder as matrices, of cells (4, 4, 3) in -1..1 flattened as (y, x, colour).

    still: (STILL, 48), orthonormal rows, of the mean of a latent's frames. halves: (HALVES, 48), orthonormal rows, of
    half the difference of two neighbouring frames. moving: (MOVING, STILL + 2 HALVES), orthonormal rows, of the change
    of `still` from the first two frames to the last two, halved, and of the `halves` of either. mean, deviation:
    (CHANNELS,), what latents are normalised by."""

    still: NDArray[np.float32]
    halves: NDArray[np.float32]
    moving: NDArray[np.float32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def encode(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalised latents (N, C, T, h, w) of clips (N, F, H, W, 3) in -1..1, as `WanModel.encode` has them."""
        parts = _parts(clips, self.still, self.halves)
        moved = parts[..., STILL:] @ self.moving.T
        latents = np.concatenate([parts[..., :STILL], moved], axis=-1)
        return ((latents - self.mean) / self.deviation).transpose(0, 4, 1, 2, 3).astype(np.float32)


def linear_code(clips: NDArray[np.float32]) -> LinearCode:
    """The code with the most variance of clips (N, F, H, W, 3) in -1..1, by principal components."""
    cells = _cells(clips)
    first, later = cells[:, 0], _in_fours(cells)
    still = _components(np.concatenate([first.reshape(-1, 48), later.mean(2).reshape(-1, 48)]), STILL)
    differences = np.stack([later[:, :, 1] - later[:, :, 0], later[:, :, 3] - later[:, :, 2]]) / 2
    halves = _components(differences.reshape(-1, 48), HALVES)
    parts = _parts(clips, still, halves)
    moving = _components(parts[:, 1:, ..., STILL:].reshape(-1, STILL + 2 * HALVES), MOVING)
    latents = np.concatenate([parts[..., :STILL], parts[..., STILL:] @ moving.T], axis=-1)
    spread = latents.reshape(-1, CHANNELS).std(0)
    wanted = np.maximum(FINEST, (spread / spread.max()) ** 0.5)
    mean = latents.reshape(-1, CHANNELS).mean(0) * (np.arange(CHANNELS) < STILL)
    return LinearCode(still, halves, moving, mean.astype(np.float32), (spread / wanted).astype(np.float32))


def _cells(clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, F, h, w, 48)."""
    count, frames, height, width, _ = clips.shape
    split = clips.reshape(count, frames, height // FACTOR, FACTOR, width // FACTOR, FACTOR, 3)
    return split.transpose(0, 1, 2, 4, 3, 5, 6).reshape(count, frames, height // FACTOR, width // FACTOR, 48)


def _in_fours(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, T - 1, 4, h, w, 48): all frames but the first."""
    return cells[:, 1:].reshape(len(cells), -1, 4, *cells.shape[2:])


def _parts(clips: NDArray[np.float32], still: NDArray[np.float32], halves: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, T, h, w, 2 STILL + 2 HALVES): a latent's mean by `still`, and what `moving` is applied to."""
    cells = _cells(clips)
    shown, change = cells @ still.T, _in_fours(cells)
    change = (change[:, :, 1::2] - change[:, :, 0::2]) / 2 @ halves.T
    pairs = _in_fours(shown)
    early, late = pairs[:, :, :2].mean(2), pairs[:, :, 2:].mean(2)
    later = np.concatenate([(early + late) / 2, (late - early) / 2, change[:, :, 0], change[:, :, 1]], axis=-1)
    nothing = np.zeros((*shown.shape[:1], 1, *shown.shape[2:4], STILL + 2 * HALVES), np.float32)
    return np.concatenate([np.concatenate([shown[:, :1], nothing], axis=-1), later], axis=1)


def _components(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(count, n): the principal axes of rows (N, n), those of the most variance first."""
    vectors = np.linalg.eigh(np.cov(rows.T.astype(np.float64)))[1][:, ::-1][:, :count].T
    return np.ascontiguousarray(vectors * np.sign(vectors.sum(1, keepdims=True) + 1e-9), np.float32)


def build_vae(code: LinearCode) -> AutoencoderKLWan:
    """4 pixels and 4 frames a latent of 16 channels; the encoder is `code`, the decoder is to be trained."""
    vae = AutoencoderKLWan(
        base_dim=WIDTH,
        decoder_base_dim=16,
        z_dim=CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        scale_factor_spatial=FACTOR,
        latents_mean=code.mean.tolist(),
        latents_std=code.deviation.tolist(),
    )
    with torch.no_grad():
        _start_encoder(vae, code)
        _start_decoder(vae, code)
    return vae


def _start_encoder(vae: AutoencoderKLWan, code: LinearCode) -> None:
    """Writes the code into the encoder: residual blocks and attention pass on what they are given, each down-sampling
    has its share of the code, and a strong constant keeps the last norm from scaling the signals."""
    encoder = vae.encoder
    first, second = (layer for layer in encoder.down_blocks if hasattr(layer, "time_conv"))
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.weight.zero_()
            module.bias.zero_()
    for module in encoder.modules():
        if isinstance(shortcut := getattr(module, "conv_shortcut", None), nn.Conv3d):
            shortcut.weight[:WIDTH, :, 0, 0, 0] = torch.eye(WIDTH)
    for colour in range(3):
        encoder.conv_in.weight[colour, colour, 2, 1, 1] = 1
        for pixel in range(4):
            first.resample[1].weight[3 * pixel + colour, colour, pixel // 2, pixel % 2] = 1
    for channel in range(12):  # of two frames their mean, and half their difference
        first.time_conv.weight[channel, channel, 1:, 0, 0] = 0.5
        first.time_conv.weight[12 + channel, channel, 1:, 0, 0] = torch.tensor([-0.5, 0.5])
    still, halves, moving = (torch.from_numpy(rows) for rows in (code.still, code.halves, code.moving))
    constant, change = 2 * STILL, slice(2 * STILL + 1, 2 * WIDTH)
    cells = second.resample[1].weight
    for y, x, colour in np.ndindex(4, 4, 3):
        place, column = (slice(None), 3 * (2 * (y % 2) + x % 2) + colour, y // 2, x // 2), (4 * y + x) * 3 + colour
        cells[:STILL][place] = still[:, column]
        cells[STILL:constant][place] = -still[:, column]
        cells[change, 12 + place[1], y // 2, x // 2] = halves[:, column]
    second.resample[1].bias[constant] = LEVEL
    time = second.time_conv.weight[..., 0, 0]
    second.time_conv.bias[constant] = LEVEL
    for sign, place in ((1, slice(0, STILL)), (-1, slice(STILL, constant))):
        time[place, :STILL, 1:] = sign * 0.5 * torch.eye(STILL)[..., None]
    for sign, start in ((1, constant + 1), (-1, constant + 1 + MOVING)):
        rows = slice(start, start + MOVING)
        time[rows, :STILL, 1] = -0.5 * sign * moving[:, :STILL]
        time[rows, :STILL, 2] = 0.5 * sign * moving[:, :STILL]
        time[rows, change, 1] = sign * moving[:, STILL : STILL + HALVES]
        time[rows, change, 2] = sign * moving[:, STILL + HALVES :]
    encoder.norm_out.gamma.fill_(LEVEL / (2 * WIDTH) ** 0.5)
    for channel in range(CHANNELS):  # SiLU(s) - SiLU(-s) = s
        plus = channel if channel < STILL else constant + 1 + channel - STILL
        minus = plus + (STILL if channel < STILL else MOVING)
        encoder.conv_out.weight[channel, plus, 2, 1, 1] = 1
        encoder.conv_out.weight[channel, minus, 2, 1, 1] = -1
    vae.quant_conv.weight.zero_()
    vae.quant_conv.bias.zero_()
    vae.quant_conv.weight[:, :, 0, 0, 0] = torch.eye(2 * CHANNELS)
    vae.quant_conv.bias[CHANNELS:] = -20.0  # log-variance: the code is exact


def _start_decoder(vae: AutoencoderKLWan, code: LinearCode) -> None:
    """Lets each frame's mean colour over a cell run past all blocks to the output; what residual blocks add starts at
    nothing, all other channels as they are drawn.

    Channels: a frame's three colours and their negatives, the same of a second frame, and a constant that keeps the
    norms' scale; at first, those of a third and a fourth frame after them. Each up-sampling of time halves them."""
    decoder, pair = vae.decoder, 12
    used, later = pair + 1, slice(pair + 1, 2 * pair + 1)
    vae.post_quant_conv.weight.zero_()
    vae.post_quant_conv.bias.zero_()
    vae.post_quant_conv.weight[:, :, 0, 0, 0] = torch.eye(CHANNELS)
    for name, module in decoder.named_modules():
        if hasattr(module, "conv2"):
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()
        if hasattr(module, "to_qkv"):
            module.proj.weight.zero_()
            module.proj.bias.zero_()
        if name.endswith("resample.1"):
            _pass_on(module, used, (1, 1))
        if name.endswith("conv_shortcut") and isinstance(module, nn.Conv3d):
            _pass_on(module, used, (0, 0, 0))
    first, second = (block.upsamplers[0].time_conv for block in decoder.up_blocks[:2])
    for time, early, late in ((first, slice(0, pair), later), (second, slice(0, 6), slice(6, pair))):
        half = time.out_channels // 2
        for start, signals in ((0, early), (half, late)):
            time.weight[start : start + used] = 0
            time.bias[start : start + used] = 0
            for row, column in enumerate(range(signals.start, signals.stop)):
                time.weight[start + row, column, 2] = 1
            time.bias[start + pair] = SOFT_LEVEL
    decoder.conv_in.weight[: 2 * pair + 1] = 0
    decoder.conv_in.bias[: 2 * pair + 1] = 0
    decoder.conv_in.bias[pair] = SOFT_LEVEL
    signals = torch.from_numpy(_mean_colours(code)).repeat_interleave(2, dim=0)
    signals[1::2] *= -1  # (8, 3, CHANNELS)
    rows = [*range(pair), *range(later.start, later.stop)]
    decoder.conv_in.weight[rows, :, 2, 1, 1] = signals.reshape(2 * pair, CHANNELS)
    decoder.norm_out.gamma[:used] = SOFT_LEVEL / decoder.norm_out.scale
    decoder.conv_out.weight.zero_()
    decoder.conv_out.bias.zero_()
    for colour in range(3):
        decoder.conv_out.weight[colour, colour, 2, 1, 1] = 1
        decoder.conv_out.weight[colour, 3 + colour, 2, 1, 1] = -1


def _pass_on(module: nn.Conv2d | nn.Conv3d, used: int, centre: tuple[int, ...]) -> None:
    """Makes a convolution's first channels those that it is given."""
    module.weight[:used] = 0
    assert module.bias is not None
    module.bias[:used] = 0
    for channel in range(used):
        module.weight[(channel, channel, *centre)] = 1


def _mean_colours(code: LinearCode) -> NDArray[np.float32]:
    """(4, 3, CHANNELS): the mean colour over a cell of each of a latent's frames, of latents as the VAE has them."""
    still, halves = (rows.reshape(-1, FACTOR**2, 3).mean(1).T for rows in (code.still, code.halves))
    turned, early, late = np.split(code.moving, [STILL, STILL + HALVES], axis=1)
    change, first, last = still @ turned.T, halves @ early.T, halves @ late.T
    moved = np.stack([-change - first, -change + first, change - last, change + last])
    return np.concatenate([np.stack([still] * 4), moved], axis=2).astype(np.float32)


def build_transformer() -> WanTransformer3DModel:
    """6 layers of 256."""
    network = WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=2 * CHANNELS + 4,
        out_channels=CHANNELS,
        text_dim=TEXT,
        freq_dim=64,
        ffn_dim=768,
        num_layers=6,
        rope_max_seq_len=64,
    )
    for block in network.blocks:
        for parameter in block.attn2.parameters():
            parameter.requires_grad_(False)
        nn.init.zeros_(block.attn2.to_out[0].weight)
        nn.init.zeros_(block.attn2.to_out[0].bias)
    return network


def given_mask(batch: int) -> Tensor:
    """(B, 4, T, h, w): 1 where the first frame is given."""
    mask = torch.zeros(batch, 4, LATENT_FRAMES, LATENT_SIZE, LATENT_SIZE)
    mask[:, :, 0] = 1
    return mask


def export(run: Path, folder: Path, code: LinearCode) -> None:
    """The model as a diffusers folder, in half precision, from a run's checkpoints."""
    vae, transformer = build_vae(code), build_transformer()
    vae.load_state_dict(load_part(run / "vae.safetensors", "mean"))
    transformer.load_state_dict(load_part(run / "flow.safetensors", "mean"))
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    for name, part in (("vae", vae.half()), ("transformer", transformer.half()), ("scheduler", scheduler)):
        part.save_pretrained(folder / name)
    index = {
        "_class_name": "WanImageToVideoPipeline",
        "vae": ["diffusers", "AutoencoderKLWan"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        **{part: [None, None] for part in ("text_encoder", "tokenizer", "image_encoder", "transformer_2")},
        "boundary_ratio": None,
        "expand_timesteps": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    settings = {"frames": FRAMES, "size": [SIZE, SIZE], **DEFAULTS}
    (folder / "paintover.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
