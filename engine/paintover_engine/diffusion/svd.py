"""Stable Video Diffusion behind one small interface: encode, decode, condition, denoise.

Blattmann et al.: Stable Video Diffusion, 2023. Any folder in the diffusers format, in half, bfloat or full precision,
on the CPU or on CUDA. What is particular here: the VAE never encodes in half precision, all noise arithmetic is
float32, cross-attention to the single image token is computed once a call (it does not depend on the query), and work
is cut smaller when memory is short.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from paintover_engine.diffusion import accelerators, loading, memory, schedule
from paintover_engine.diffusion.denoiser import Denoiser, guide, require_finite_pictures
from paintover_engine.diffusion.memory import GB, Needs, Result, Tier, Tiered
from paintover_engine.diffusion.models import VideoShape, digest, read_json, video_shape
from paintover_engine.diffusion.schedule import Sigma
from paintover_engine.errors import Code, PaintoverError

log = logging.getLogger(__name__)

MOTION = (6.0, 127.0)
"""Frames a second less one, and motion bucket, that the network is conditioned on: SVD's own defaults."""

_BLOCKS = (BasicTransformerBlock, TemporalBasicTransformerBlock)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ModelConfig(VideoShape):
    """scale: what latents are multiplied by. channels: of latents. sigma_min, sigma_max: ends of the noise levels."""

    scale: float
    channels: int
    sigma_min: float
    sigma_max: float

    def sigmas(self, steps: int) -> Tensor:
        """The model's noise levels, (steps + 1,), descending to 0."""
        return schedule.karras_sigmas(steps, self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class Condition:
    """The network's conditioning on a picture. token: (1, 1, width), its CLIP embedding. latent: (1, 4, h, w), its
    unscaled VAE latents. time_ids: (1, 3), frames a second less one, motion bucket, and `noise_aug`."""

    token: Tensor
    latent: Tensor
    time_ids: Tensor

    def unconditional(self) -> Condition:
        """The same without a picture."""
        return dataclasses.replace(self, token=torch.zeros_like(self.token), latent=torch.zeros_like(self.latent))


class OneTokenAttention:
    """Cross-attention to one token: softmax over one key is 1, so that every query gets W_o W_v token + b_o. It is
    computed once an item instead of once a pixel; the query's, key's and norm's weights are not read.

    items: how many items the network works on; rows of one item share their token."""

    items = 1

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        rows = encoder_hidden_states.shape[0] // self.items
        output: Tensor = attn.to_out[0](attn.to_v(encoder_hidden_states[::rows]))
        return output.repeat_interleave(rows, dim=0)


def fold_cross_attention(unet: torch.nn.Module) -> None:
    """Gives every cross-attention of a network `OneTokenAttention`, and spares its norm. Weights keep their names."""
    folded = OneTokenAttention()
    blocks: list[Any] = [module for module in unet.modules() if isinstance(module, _BLOCKS)]
    for block in blocks:
        block.attn2.set_processor(folded)
        block.norm2 = torch.nn.Identity()

    def count_items(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        folded.items = (args[0] if args else kwargs["sample"]).shape[0]

    unet.register_forward_pre_hook(count_items, with_kwargs=True)


class VideoModel(Tiered):
    """A loaded model. Pictures are (…, 3, H, W) in [-1, 1], latents (1, F, 4, h, w) float32 on `device`.

    dtype: of the UNet, the image encoder and the VAE's decoder; its encoder computes in float32."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.folder, self.dtype = folder, dtype
        self.unet = loading.network(UNetSpatioTemporalConditionModel, folder, "unet", dtype)
        self.vae = loading.network(AutoencoderKLTemporalDecoder, folder, "vae", torch.float32)
        self.image_encoder = loading.network(CLIPVisionModelWithProjection, folder, "image_encoder", dtype)
        self.vae.decoder.to(dtype)
        fold_cross_attention(self.unet)
        self.config = _config(folder, self.vae)
        parts = {
            "unet": [self.unet],
            "encoder": [self.vae.encoder, self.vae.quant_conv],
            "decoder": [self.vae.decoder],
            "image_encoder": [self.image_encoder],
        }
        super().__init__(device, parts)
        self._fitted: tuple[int, int, int] | None = None

    # Memory.

    def fit(self, frames: int, height: int, width: int) -> Tier:
        """Chooses the quickest tier that fits in what is free, for windows of `frames` pictures of that size.

        Raises PaintoverError with what is free and what would do, where nothing fits."""
        if self._fitted != (frames, height, width):
            needs, free = self.needs(frames, height, width), self.free()
            tier = memory.choose(needs, free) if free is not None else memory.TIERS[0]
            if tier is None:
                raise _too_little(self.device, needs.peak(memory.TIERS[-1]), free or 0, (frames, height, width))
            self.tier, self._fitted = tier, (frames, height, width)
            log.info("%s works in the tier '%s' for %d frames of %dx%d", self.folder, tier.name, frames, width, height)
        return self.tier

    def needs(self, frames: int, height: int, width: int) -> Needs:
        """What the model's work on such windows takes, from shapes alone."""
        return Needs(self.weights(), bare_needs(self.folder, self.dtype, frames, height, width).work)

    # Pictures and latents.

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Scaled latents (1, F, 4, h, w) of pictures (F, 3, H, W): the posterior's mode."""
        latents = self._held(
            "encoder", lambda: [self._encode(part) for part in torch.split(frames, self.tier.encode_frames)]
        )
        return torch.cat(latents)[None] * self.config.scale

    def _encode(self, frames: Tensor) -> Tensor:
        """Unscaled latents (F, 4, h, w)."""
        mode: Tensor = self.vae.encode(frames.to(self.device, torch.float32)).latent_dist.mode()
        return mode

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (F, 3, H, W) float32, not clipped, of scaled latents (1, F, 4, h, w). The decoder looks across
        frames: they are decoded together, or where memory is short, in few equal parts."""
        unscaled = (latents[0] / self.config.scale).to(self.device)
        pictures = self._held("decoder", lambda: [self._decode(part) for part in self._parts_of(unscaled)])
        return require_finite_pictures(torch.cat(pictures))

    def _parts_of(self, latents: Tensor) -> Sequence[Tensor]:
        return latents.tensor_split(-(-len(latents) // self.tier.decode_frames))

    def _decode(self, latents: Tensor) -> Tensor:
        pictures: Tensor = self.vae.decode(latents.to(self.dtype), num_frames=len(latents)).sample
        return pictures.float()

    # Conditions.

    @torch.no_grad()
    def condition(self, picture: Tensor, *, noise_aug: float, seed: int = 0, latent: Tensor | None = None) -> Condition:
        """The conditioning on a picture (1, 3, H, W) in -1..1: for inversion, training and denoising alike.

        noise_aug: standard deviation of the noise added to the picture for the VAE. seed: of that noise, the same on
        every device. latent: (1, 4, h, w) to take as its unscaled latents instead (a window's handed-over frame)."""
        token = self._held("image_encoder", lambda: self._token(picture))
        if latent is None:
            noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
            noisy = picture.cpu().float() + noise_aug * noise
            latent = self._held("encoder", lambda: self._encode(noisy))
        ids = torch.tensor([[*MOTION, noise_aug]], device=self.device)
        return Condition(token, latent.to(self.device), ids)

    def _token(self, picture: Tensor) -> Tensor:
        """CLIP's embedding (1, 1, width) of a picture, shrunk as SVD's own pipeline does."""
        side = self.image_encoder.config.image_size
        pixels = picture.to(self.device, torch.float32)
        small = _resize_with_antialiasing(pixels, (side, side))  # type: ignore[no-untyped-call]
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (_CLIP_MEAN, _CLIP_STD))
        pixels = ((small + 1) / 2 - mean) / std
        embeds: Tensor = self.image_encoder(pixels.to(self.dtype)).image_embeds
        return embeds[:, None].float()

    # The network.

    def raw(self, x: Tensor, sigma: Sigma, conditions: Sequence[Condition]) -> Tensor:
        """The network's own output (B, F, 4, h, w) float32 for noisy latents `x` at level `sigma` (one, or one an
        item), with one condition an item. Keeps gradients."""
        frames = x.shape[1]
        latent = torch.cat([condition.latent for condition in conditions])[:, None].expand(-1, frames, -1, -1, -1)
        scaled = schedule.c_in(schedule.spread(sigma, x)) * x
        output: Tensor = self.unet(
            torch.cat([scaled, latent], dim=2).to(self.dtype),
            schedule.c_noise(sigma).to(self.device),
            torch.cat([condition.token for condition in conditions]).to(self.dtype),
            torch.cat([condition.time_ids for condition in conditions]).to(self.dtype),
            return_dict=False,
        )[0]
        return output.float()

    def work(self, work: Callable[[], Result]) -> Result:
        """Some work of a method's own with the network (`raw`), with the network on the device. When memory runs out it
        is done again in a smaller tier, whose `batched` it is to heed."""
        return self._held("unet", work)

    def denoiser(self, condition: Condition, guidance: float | Tensor = 1.0) -> Denoiser:
        """A denoiser of latents (1, F, 4, h, w). guidance: of all frames, or one a frame (F,); at 1 the unconditional
        item is left out."""
        scale = torch.as_tensor(guidance, dtype=torch.float32, device=self.device)
        if bool((scale == 1).all()):
            return functools.partial(self._denoise, conditions=[condition], scale=None)
        return functools.partial(self._denoise, conditions=[condition.unconditional(), condition], scale=scale)

    @torch.no_grad()
    def _denoise(self, x: Tensor, sigma: Sigma, conditions: Sequence[Condition], scale: Tensor | None) -> Tensor:
        output = self._held("unet", lambda: self._outputs(x, sigma, conditions))
        guided = output if scale is None else guide(output[:1], output[1:], scale)
        return schedule.denoised(x, guided, sigma)

    def _outputs(self, x: Tensor, sigma: Sigma, conditions: Sequence[Condition]) -> Tensor:
        """The network's output for the same latents under each condition, in one batch or one by one."""
        if self.tier.batched:
            return self.raw(x.expand(len(conditions), *x.shape[1:]), sigma, conditions)
        return torch.cat([self.raw(x, sigma, [condition]) for condition in conditions])


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path, device: str, dtype: torch.dtype, digest: str) -> VideoModel:
    return VideoModel(folder, torch.device(device), dtype)


def load(folder: Path, device: str = "auto", dtype: str = "auto") -> VideoModel:
    """The model in a diffusers folder; the one loaded last is kept.

    device: "auto" (a GPU where there is one, else the CPU), or PyTorch's name of one. dtype: "auto" (half on a GPU,
    float32 on the CPU), "fp16", "bf16" or "fp32". Raises PaintoverError for a damaged folder."""
    chosen = accelerators.chosen(device)
    known = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    return _loaded(folder, chosen.type, known.get(dtype, chosen.dtype), digest(folder, "svd"))


def _config(folder: Path, vae: Any) -> ModelConfig:
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    return ModelConfig(
        **dataclasses.asdict(video_shape(folder)),
        scale=float(vae.config.scaling_factor),
        channels=int(vae.config.latent_channels),
        sigma_min=float(scheduler.get("sigma_min") or 0.002),
        sigma_max=float(scheduler.get("sigma_max") or 700.0),
    )


def _unfilled(kind: Any, folder: Path) -> Any:
    """A network without weights."""
    return kind.from_config(read_json(folder / "config.json"))


@functools.lru_cache(maxsize=8)
def bare_needs(folder: Path, dtype: torch.dtype, frames: int, height: int, width: int) -> Needs:
    """What UNet and VAE take for windows of `frames` pictures of that size, from their configurations alone."""
    with loading.quiet(), torch.device("meta"):
        unet: Any = _unfilled(UNetSpatioTemporalConditionModel, folder / "unet")
        vae: Any = _unfilled(AutoencoderKLTemporalDecoder, folder / "vae")
    unet, vae = unet.to("meta", dtype), vae.to("meta")  # what their __init__ made outside of the context
    fold_cross_attention(unet)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    high, wide = height // factor, width // factor

    def blank(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=kind, device="meta")

    noisy, ids = blank(1, frames, unet.config.in_channels, high, wide), blank(1, 3)
    level, token = blank(1, kind=torch.float32), blank(1, 1, unet.config.cross_attention_dim)
    latents, picture = blank(1, vae.config.latent_channels, high, wide), blank(1, 3, height, width, kind=torch.float32)
    work = {"encoder": memory.live_bytes(lambda: vae.encode(picture))}
    vae.decoder.to(dtype)
    work["decoder"] = memory.live_bytes(lambda: vae.decode(latents, num_frames=1))
    work["unet"] = memory.live_bytes(lambda: unet(noisy, level, token, ids, return_dict=False))
    weights = {"unet": unet, "encoder": vae.encoder, "decoder": vae.decoder}
    return Needs({part: memory.weight_bytes(module) for part, module in weights.items()}, work)


def _too_little(device: torch.device, needed: float, free: float, window: tuple[int, int, int]) -> PaintoverError:
    frames, height, width = window
    whose = memory.owner(device).replace("The", "the")
    return PaintoverError(
        Code.RESOURCE_EXHAUSTED,
        f"{frames} frames of {width}x{height} take {needed / GB:.1f} GB of {whose} memory even in the smallest tier, "
        f"and {free / GB:.1f} GB are free; close other programs, or set a smaller working size.",
    )
