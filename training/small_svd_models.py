"""The networks of the small video model: Stable Video Diffusion's own classes, made small, and where they start.

The encoder is a fixed linear code: 2x2 pixels to 4 numbers. The decoder starts as the mean colour of the code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import load_part
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from numpy.typing import NDArray
from paintover_evaluation.clips import FRAMES, SIZE, random_clip
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

SCALING = 0.18215  # SVD's: scaled latents have a deviation of about 1, unscaled ones of 5.5
WIDTH = 96  # channels: groups of 3 for the 32 groups of every norm
TOKEN = 64  # width of the picture tower's embedding
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
LEVEL, UNET_LEVEL = 30.0, 8.0  # of the constant channel that keeps a norm's scale


def build_unet(linear: Tensor | None = None) -> UNetSpatioTemporalConditionModel:
    """Two levels of 96 channels, attention at the lower one.

    linear: a convolution (4, 8, 3, 3) of its input that it starts as."""
    unet = UNetSpatioTemporalConditionModel(
        sample_size=SIZE // 2,
        in_channels=8,
        out_channels=4,
        down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
        up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
        block_out_channels=(WIDTH, WIDTH),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=TOKEN,
        num_attention_heads=(3, 3),
        num_frames=FRAMES,
    )
    if linear is not None:
        with torch.no_grad():
            _start_unet(unet, linear)
    return unet


def build_clip() -> CLIPVisionModelWithProjection:
    """A vision tower of two layers over 7x7 patches."""
    config = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=192,
        projection_dim=TOKEN,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=224,
        patch_size=32,
    )
    return CLIPVisionModelWithProjection(config)


def build_vae(linear: tuple[Tensor, Tensor] | None = None) -> AutoencoderKLTemporalDecoder:
    """The VAE with a linear code in place: `linear_code`'s of the shipped model's world, or another world's."""
    vae = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        block_out_channels=(WIDTH, WIDTH),
        layers_per_block=1,
        latent_channels=4,
        sample_size=SIZE,
        scaling_factor=SCALING,
    )
    code, centre = linear or linear_code(world_frames())
    with torch.no_grad():
        _start_encoder(vae, code, centre)
        _start_decoder(vae, code, centre)
    return vae


def world_frames() -> NDArray[np.float32]:
    """(400, H, W, 3), sRGB 0..1: first frames of the shipped model's world."""
    rng = np.random.default_rng(1234)
    return np.stack([random_clip(rng).render()[0] for _ in range(400)])


def linear_code(pictures: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Rows (4, 12) that turn 2x2 pixels, as (3, 2, 2) in -1..1, into unscaled latents, and the centre (12,) taken off.

    The principal components of the patches of pictures (n, H, W, 3) in 0..1, each brought to SVD's deviation (the last,
    fine detail, to half).
    """
    frames = pictures * 2 - 1
    count, size = frames.shape[0], frames.shape[1] // 2
    cells = frames.reshape(count, size, 2, size, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 12).astype(np.float64)
    centre = cells.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((cells - centre).T))
    rows = vectors[:, ::-1][:, :4].T / np.sqrt(values[::-1][:4])[:, None]
    rows *= np.sign(rows.sum(axis=1) + 1e-9)[:, None] * np.array([1, 1, 1, 0.5])[:, None] / SCALING
    return torch.from_numpy(rows).float(), torch.from_numpy(centre).float()


def clip_pixels(pictures: Tensor) -> Tensor:
    """What the tower sees of pictures (B, 3, H, W) in -1..1: SVD's resize to 224x224 and CLIP's normalisation.

    The pictures are smaller than 224, so that the resize's blur does nothing.
    """
    large = F.interpolate(pictures, (224, 224), mode="bicubic", align_corners=True)
    mean, deviation = (large.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((large + 1) / 2 - mean) / deviation


def _start_unet(unet: UNetSpatioTemporalConditionModel, linear: Tensor) -> None:
    """Let the input run past all blocks to the output, by the last block's skip; all else starts at no weight.

    Every group of the last norm holds a strong constant, so that it does not erase mean colours."""
    last = unet.up_blocks[-1].resnets[-1]
    shortcut = last.spatial_res_block.conv_shortcut
    shortcut.bias[2::3] = UNET_LEVEL
    _clear(unet.conv_out)
    for signal, scale in enumerate([1.0] * 4 + [SCALING] * 4):
        for sign, channel in ((1, 3 * signal), (-1, 3 * signal + 1)):
            unet.conv_in.weight[channel] = 0
            unet.conv_in.bias[channel] = 0
            unet.conv_in.weight[channel, signal, 1, 1] = sign * scale
            unet.conv_out.weight[:, channel] = sign / scale * linear[:, signal]
            shortcut.weight[channel] = 0
            shortcut.weight[channel, WIDTH + channel] = 1
            shortcut.bias[channel] = 0
        shortcut.weight[3 * signal + 2] = 0
    for layer in (last.spatial_res_block.conv2, last.temporal_res_block.conv2):
        layer.weight[:24] = 0
        layer.bias[:24] = 0
    _pass_through(unet.conv_norm_out, 8, UNET_LEVEL)


def _start_encoder(vae: AutoencoderKLTemporalDecoder, code: Tensor, centre: Tensor) -> None:
    encoder = vae.encoder
    _silence(encoder)
    _clear(encoder.conv_in)
    for channel in range(3):
        encoder.conv_in.weight[channel, channel, 1, 1] = 1
    down = encoder.down_blocks[0].downsamplers[0].conv
    _clear(down)
    rows = code * SCALING  # about 1
    for signal, row in enumerate(rows):
        for sign, channel in ((1, 3 * signal), (-1, 3 * signal + 1)):
            down.weight[channel, :3, :2, :2] = sign * row.reshape(3, 2, 2)
            down.bias[channel] = -sign * float(row @ centre)
        down.bias[3 * signal + 2] = LEVEL
    _pass_through(encoder.conv_norm_out, 4)
    _clear(encoder.conv_out)
    for signal in range(4):
        encoder.conv_out.weight[signal, 3 * signal, 1, 1] = 1 / SCALING
        encoder.conv_out.weight[signal, 3 * signal + 1, 1, 1] = -1 / SCALING
    encoder.conv_out.bias[4:] = -12.0  # the log variance
    _clear(vae.quant_conv)
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(8)


def _start_decoder(vae: AutoencoderKLTemporalDecoder, code: Tensor, centre: Tensor) -> None:
    decoder = vae.decoder
    _silence(decoder)
    back = torch.linalg.pinv(code.double()).float().reshape(3, 4, 4).mean(dim=1)  # (3 colours, 4 latents)
    mean = centre.reshape(3, 4).mean(dim=1)
    for colour in range(3):
        for sign, channel in ((1, 3 * colour), (-1, 3 * colour + 1)):
            decoder.conv_in.weight[channel] = 0
            decoder.conv_in.weight[channel, :, 1, 1] = sign * back[colour]
            decoder.conv_in.bias[channel] = sign * mean[colour]
        decoder.conv_in.weight[3 * colour + 2] = 0
        decoder.conv_in.bias[3 * colour + 2] = LEVEL
    up = decoder.up_blocks[0].upsamplers[0].conv
    _clear(up)
    up.weight[:, :, 1, 1] = torch.eye(WIDTH)
    _pass_through(decoder.conv_norm_out, 3)
    _clear(decoder.conv_out)
    for colour in range(3):
        decoder.conv_out.weight[colour, 3 * colour, 1, 1] = 1
        decoder.conv_out.weight[colour, 3 * colour + 1, 1, 1] = -1
    _clear(decoder.time_conv_out)
    for colour in range(3):
        decoder.time_conv_out.weight[colour, colour, 1, 0, 0] = 1


def _silence(network: nn.Module) -> None:
    """Let every residual block and attention add nothing at first."""
    for name, module in network.named_modules():
        if name.endswith((".conv2", ".to_out.0")):
            _clear(module)


def _clear(layer: nn.Module) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _pass_through(norm: nn.GroupNorm, signals: int, level: float = LEVEL) -> None:
    """Make a norm of groups (s, -s, level) give back s and -s: SiLU(s) - SiLU(-s) is s, so all stays linear."""
    norm.weight[: 3 * signals] = level * 2**0.5 / 3
    norm.bias[: 3 * signals] = level / 3


def scheduler() -> EulerDiscreteScheduler:
    """SVD's own."""
    return EulerDiscreteScheduler(
        beta_end=0.012,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )


def export(run: Path, folder: Path) -> None:
    """Write the run's models as a diffusers folder of half-precision safetensors, whole or not at all.

    The UNet is the moving average. A decoder that was not trained yet is left at its start.
    """
    vae, tower, unet = build_vae(), build_clip(), build_unet()
    tower.load_state_dict(load_part(run / "clip.safetensors", "model"))
    unet.load_state_dict(load_part(run / "unet.safetensors", "ema"))
    if (run / "vae.safetensors").exists():
        vae.load_state_dict(load_part(run / "vae.safetensors", "model"))
    save_pipeline(folder, vae, tower, unet, DEFAULTS)


def save_pipeline(
    folder: Path,
    vae: AutoencoderKLTemporalDecoder,
    tower: CLIPVisionModelWithProjection,
    unet: UNetSpatioTemporalConditionModel,
    defaults: Mapping[str, object],
) -> None:
    """Write a diffusers folder in half precision, whole or not at all; README.md and paintover.json of an older one are
    kept. defaults: what a new paintover.json holds."""
    pipeline = StableVideoDiffusionPipeline(
        vae=vae.half(),
        image_encoder=tower.half(),
        unet=unet.half(),
        scheduler=scheduler(),
        feature_extractor=CLIPImageProcessor(),
    )
    fresh, old = (folder.with_name(f".{folder.name}.{name}") for name in ("part", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline.save_pretrained(fresh, safe_serialization=True)
    for name in ("README.md", "paintover.json"):
        if (folder / name).exists():
            shutil.copy(folder / name, fresh / name)
    if not (fresh / "paintover.json").exists():
        (fresh / "paintover.json").write_text(json.dumps(defaults, indent=2) + "\n")
    for path in fresh.rglob("*.safetensors"):
        path.chmod(0o644)  # saved readable by its owner alone
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {total / 1e6:.1f} MB")


DEFAULTS = {
    "frames": FRAMES,
    "size": [SIZE, SIZE],
    "noise_aug_strength": 0.02,
    "strength": 0.5,
    "guidance": 1.0,
    # Extrapolation holds down to lower levels than Stable Video Diffusion's 1: benchmarks/videoshop.py parts.
    "threshold": 0.05,
    # It was not trained for latents that are evened out, so that Videoshop's normalisation costs more than it gives.
    "normalisation": "none",
    "rescaling": "undo",
    "condition": "plain",
}
