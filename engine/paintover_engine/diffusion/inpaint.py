"""Stable Diffusion 1.5 Inpainting behind one small interface, for 2×2 grids: encode, decode, the conditioning of a
shown edit, the network's estimate of the noise, and CLIP's embedding of pictures.

Rombach et al.: High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022. Any folder in the diffusers
format. What is particular here: cells are coded each for itself, so that a shot's latents do not depend on the keyframe
and only new cells are coded; the VAE computes in float32; all noise arithmetic is float32; fewer grids go through the
network at once when memory is short.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import CLIPModel, CLIPTextModel

from paintover_engine.diffusion import accelerators, clip_direction, loading
from paintover_engine.diffusion.clip_direction import TextSpace
from paintover_engine.diffusion.cloning import set_cloning
from paintover_engine.diffusion.denoiser import require_finite_pictures
from paintover_engine.diffusion.memory import Tiered
from paintover_engine.diffusion.models import digest
from paintover_engine.errors import Code, PaintoverError

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_BYTES = 64
"""Working memory of the network, for each latent of a grid and each channel of its widest layer: 13 of them are Stable
Diffusion 1.5's tensors in half precision (`memory.live_bytes`), the rest is for kernels and cloned attention."""


@dataclass(frozen=True)
class Exemplar:
    """The conditioning of one shown edit. source, edited: (1, 4, h, w), scaled latents of the cells A and A'. prompt:
    (1, tokens, width), the edit's direction (VP4, eq. 3); null: the empty prompt's states."""

    source: Tensor
    edited: Tensor
    prompt: Tensor
    null: Tensor

    def unedited(self) -> Exemplar:
        """The same pair without its edit."""
        return Exemplar(self.source, self.source, self.null, self.null)


class InpaintModel(Tiered):
    """A loaded model. Pictures are (B, 3, H, W) in [-1, 1]; latents (B, 4, h, w) float32, scaled, on `device`.

    clip: the folder of the CLIP that embeds pictures for the edit's direction. evaluations: grids that have passed
    through the network. factor: pixels a latent, on either axis."""

    def __init__(self, folder: Path, clip: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.unet = loading.network(UNet2DConditionModel, folder, "unet", dtype)
        self.vae = loading.network(AutoencoderKL, folder, "vae", torch.float32)
        super().__init__(device, {"unet": [self.unet], "vae": [self.vae]})
        scheduler = loading.diffusion_schedule(folder)
        self.alphas: Tensor = scheduler.alphas_cumprod
        self.prediction: str = scheduler.config.prediction_type
        self._clip = loading.network(CLIPModel, clip, ".", torch.float32)
        self.text = _empty_prompt(folder, self._clip)
        self.evaluations = 0
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self._cloned: tuple[float, int, int] | None = None

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """The posterior's mode, scaled. Stable Diffusion draws from it; its spread is far below what is seen."""
        modes = self._held(
            "vae", lambda: [self._encode(part) for part in torch.split(pictures, self.tier.encode_frames)]
        )
        return torch.mul(torch.cat(modes), self.vae.config.scaling_factor)

    def _encode(self, pictures: Tensor) -> Tensor:
        mode: Tensor = self.vae.encode(pictures.to(self.device, torch.float32)).latent_dist.mode()
        return mode

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures, not clipped."""
        pictures = self._held(
            "vae", lambda: [self._decode(part) for part in torch.split(latents, self.tier.decode_frames)]
        )
        return require_finite_pictures(torch.cat(pictures))

    def _decode(self, latents: Tensor) -> Tensor:
        pictures: Tensor = self.vae.decode(latents.to(self.device) / self.vae.config.scaling_factor).sample
        return pictures

    @torch.no_grad()
    def embed(self, pictures: Tensor) -> Tensor:
        """CLIP's image embeddings (B, joint): the whole picture, squeezed to CLIP's square, nothing cut off."""
        side = self._clip.config.vision_config.image_size
        small = interpolate(pictures.cpu().float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, std = (torch.tensor(values)[:, None, None] for values in (_CLIP_MEAN, _CLIP_STD))
        pixels = (small.clamp(-1, 1) / 2 + 0.5 - mean) / std
        pooled = self._clip.vision_model(pixel_values=pixels).pooler_output
        embedded: Tensor = self._clip.visual_projection(pooled)
        return embedded

    def exemplar(self, source: Tensor, edited: Tensor, lambda1: float, reading: clip_direction.Reading) -> Exemplar:
        """The conditioning of an edit, of the pictures (1, 3, H, W) before and after it (VP4, eq. 3).

        Raises PaintoverError where the literal reading needs a CLIP of the text's width and this one is not."""
        towards = clip_direction.direction(self.embed(source), self.embed(edited))
        if reading == "literal" and towards.shape[-1] != self.text.hidden.shape[-1]:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                "This model's CLIP embeds pictures in another width than its text has: leave prompt at offset.",
            )
        prompt = clip_direction.prompt(towards, self.text, lambda1, reading)
        return Exemplar(
            self.encode(source), self.encode(edited), prompt.to(self.device), self.text.hidden.to(self.device)
        )

    def clone_attention(self, scale: float, height: int, width: int) -> None:
        """Self-attention cloning of that scale on grids of that size in latents; 0 for none."""
        if self._cloned != (scale, height, width):
            set_cloning(self.unet, scale, height, width)
            self._cloned = (scale, height, width)

    def frames_at_once(self, height: int, width: int, most: int) -> int:
        """How many frames' grids go through the network together, up to `most`: on a GPU, as many as half of its free
        memory holds. height, width: of a cell's latents."""
        if self.device.type == "cpu":
            return most
        free = (self.free() or 0) - sum(self.weights().values())
        widest = max(self.unet.config.block_out_channels)
        return int(max(1, min(most, free / 2 // (3 * 4 * height * width * widest * _BYTES))))

    @torch.no_grad()
    def noise(self, z: Tensor, t: int, masked: Tensor, prompt: Tensor) -> Tensor:
        """The network's estimate of the noise in grids z, (B, 4, 2h, 2w) float32, at time step t.

        masked: of z's shape, the grids' clean latents with grey in the answer's cell. prompt: (B, tokens, width)."""
        mask = torch.zeros_like(z[:, :1])
        mask[..., z.shape[-2] // 2 :, z.shape[-1] // 2 :] = 1
        inputs = torch.cat([z, mask, masked], 1)
        output = self._held("unet", lambda: self._outputs(inputs, t, prompt))
        self.evaluations += len(z)
        if self.prediction == "v_prediction":
            a = float(self.alphas[t])
            return torch.add(a**0.5 * output, z, alpha=(1 - a) ** 0.5)
        return output

    def _outputs(self, inputs: Tensor, t: int, prompt: Tensor) -> Tensor:
        """The network's own output, float32, for as many grids at once as the tier lets through."""
        at_once = max(1, int(len(inputs) * self.tier.share))
        outputs = [
            self.unet(grids.to(self.dtype), t, states.to(self.device, self.dtype), return_dict=False)[0].float()
            for grids, states in zip(torch.split(inputs, at_once), torch.split(prompt, at_once), strict=True)
        ]
        return torch.cat(outputs)


def grid(top_left: Tensor, top_right: Tensor, bottom_left: Tensor, bottom_right: Tensor) -> Tensor:
    """Cells (B or 1, 4, h, w) as grids (B, 4, 2h, 2w)."""
    cells = (top_left, top_right, bottom_left, bottom_right)
    count = max(len(cell) for cell in cells)
    rows = (cells[:2], cells[2:])
    return torch.cat([torch.cat([cell.expand(count, -1, -1, -1) for cell in row], -1) for row in rows], -2)


def answer(grids: Tensor) -> Tensor:
    """The bottom right cells (B, C, h, w) of grids: B', the answers."""
    return grids[..., grids.shape[-2] // 2 :, grids.shape[-1] // 2 :]


def question(grids: Tensor) -> Tensor:
    """The bottom left cells (B, C, h, w) of grids: B, the questions."""
    return grids[..., grids.shape[-2] // 2 :, : grids.shape[-1] // 2]


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path, clip: Path, device: str, dtype: torch.dtype, digest: str) -> InpaintModel:
    return InpaintModel(folder, clip, torch.device(device), dtype)


def load(folder: Path, clip: Path, device: str = "auto") -> InpaintModel:
    """The model in a diffusers folder, and the CLIP in another; the one loaded last is kept.

    device: "auto" (a GPU where there is one, with half precision), or PyTorch's name of one. Raises PaintoverError for
    a damaged folder."""
    chosen = accelerators.chosen(device)
    return _loaded(folder, clip, chosen.type, chosen.dtype, digest(folder, "inpaint", clip))


@torch.no_grad()
def _empty_prompt(folder: Path, clip: CLIPModel) -> TextSpace:
    """The empty prompt's states by the model's own text tower, and the projection that CLIP has behind it."""
    tokenizer = loading.tokenizer(folder)
    tower = loading.network(CLIPTextModel, folder, "text_encoder", torch.float32)
    length = tower.config.max_position_embeddings
    ids = tokenizer([""], padding="max_length", max_length=length, return_tensors="pt").input_ids
    hidden = tower(input_ids=ids).last_hidden_state
    end = int((ids[0] == tokenizer.eos_token_id).nonzero()[0])
    projection: Tensor = clip.text_projection.weight
    if projection.shape[1] != hidden.shape[-1]:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The CLIP beside {folder} is another than its text encoder's: their widths are {projection.shape[1]} and "
            f"{hidden.shape[-1]}; use openai/clip-vit-large-patch14 for Stable Diffusion 1.5.",
        )
    return TextSpace(hidden, end, projection)
