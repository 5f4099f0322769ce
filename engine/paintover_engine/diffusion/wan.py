"""Wan's video models behind one small interface: encode, decode, condition, velocity.

Wan team: Wan: Open and Advanced Large-Scale Video Generative Models, 2025; Jiang et al.: VACE, ICCV 2025. Any folder in
the diffusers format: image-to-video 2.1 (with its image encoder) and 2.2 (two transformers, each for its own levels),
TI2V-5B, VACE. What is particular here: the VAE computes in float32, latents are (1, T, C, h, w) as everywhere in this
package, a prompt's embeddings are given (`diffusion.prompt`), and work is cut smaller when memory is short.

Frames and latents: the VAE is causal in time. Latent 0 is frame 0 by itself, latent j the frames 4j - 3 to 4j.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from paintover_engine.diffusion import accelerators, flow, loading, memory, wan_decode, wan_memory
from paintover_engine.diffusion.denoiser import guide, require_finite_pictures
from paintover_engine.diffusion.flow import Velocity
from paintover_engine.diffusion.memory import Tier, Tiered
from paintover_engine.diffusion.models import digest, wan_layout
from paintover_engine.diffusion.schedule import Sigma
from paintover_engine.diffusion.wan_decode import Decoding
from paintover_engine.diffusion.wan_folder import WanLayout
from paintover_engine.diffusion.wan_memory import TIERS, WanNeeds

log = logging.getLogger(__name__)

TIMESTEPS = 1000
"""The time step that the networks are given is the level times this."""

FRAMES_A_LATENT = 4


def latent_frames(frames: int) -> int:
    """Latents of a clip of 4k + 1 frames."""
    return latent_of(frames - 1) + 1


def latent_of(frame: int) -> int:
    """The latent that a clip's frame is in."""
    return (frame + FRAMES_A_LATENT - 1) // FRAMES_A_LATENT


@dataclass(frozen=True)
class Conditioning:
    """What a transformer is given beside noisy latents and a prompt.

    latent: image-to-video, (1, T, 4 + C, h, w): a mask and the latents of the given frames in a grey clip; TI2V, (1, 1,
    C, h, w): the first frame's clean latents; VACE: None. image: (pictures, tokens, width) of the image encoder, or
    None.
    control: VACE's, (1, T + references, 2 C + factor², h, w), or None. strength: of the control."""

    latent: Tensor | None = None
    image: Tensor | None = None
    control: Tensor | None = None
    strength: float = 1.0


class WanModel(Tiered):
    """A loaded model. Pictures are (F, 3, H, W) in [-1, 1], latents (1, T, C, h, w) float32 on `device`.

    dtype: of the transformers and the image encoder."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.folder, self.dtype, self.layout = folder, dtype, wan_layout(folder)
        kind: Any = WanVACETransformer3DModel if self.layout.layers else WanTransformer3DModel
        experts = [part for part in ("transformer", "transformer_2") if part in self.layout.parts]
        self._experts: dict[str, Any] = {part: loading.network(kind, folder, part, dtype) for part in experts}
        self.vae = loading.network(AutoencoderKLWan, folder, "vae", torch.float32)
        self.image_encoder, self._image_processor = _image_encoder(folder, self.layout, dtype)
        self._held_parts: dict[str, list[torch.nn.Module]] = {
            **{part: [expert] for part, expert in self._experts.items()},
            "encoder": [self.vae.encoder, self.vae.quant_conv],
            "decoder": [self.vae.decoder, self.vae.post_quant_conv],
        }
        if self.image_encoder is not None:
            self._held_parts["image_encoder"] = [self.image_encoder]
        super().__init__(device, self._held_parts, TIERS)
        config = self.vae.config
        mean, deviation = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
        self._mean, self._inverse_deviation = mean.to(device), (1.0 / deviation).to(device)
        self._fitted: tuple[int, int, int] | None = None
        self._streamed: set[str] = set()
        self._decodings: dict[str, Decoding] = {}

    # Memory.

    def fit(self, frames: int, height: int, width: int) -> Tier:
        """Chooses the quickest tier that fits in what is free, for windows of `frames` pictures of that size.

        Raises PaintoverError with what is free and what would do, where nothing fits."""
        if self._fitted != (frames, height, width):
            free = self.free()
            needs = self.needs(frames, height, width)
            self.tier = wan_memory.chosen(needs, free, memory.owner(self.device), (frames, height, width))
            self._fitted = (frames, height, width)
            log.info("%s works in the tier '%s' for %s", self.folder, self.tier.name, self._fitted)
        return self.tier

    def needs(self, frames: int, height: int, width: int) -> WanNeeds:
        """What the model's work on such windows takes, from shapes alone."""
        return wan_memory.needs(self.folder, self.dtype, frames, height, width)

    def _bring(self, part: str) -> None:
        self.vae.use_tiling = self.tier.tiled
        if part != "decoder":
            self._decodings.clear()  # their memories may lie on the device
        if self.tier.streamed:
            for name in self._experts.keys() - self._streamed:
                wan_memory.stream(self._experts[name].to("cpu"), self.device)
                self._streamed.add(name)
                self._held_parts.pop(name)  # its blocks come and go by themselves
        super()._bring(part)

    # Pictures and latents.

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Normalised latents (1, T, C, h, w) of a clip of 4k + 1 pictures (F, 3, H, W): the posterior's mode."""
        return self._held("encoder", lambda: self._encode(frames))

    def _encode(self, frames: Tensor) -> Tensor:
        clip = frames.to(self.device, torch.float32).transpose(0, 1)[None]
        mode = self.vae.encode(clip).latent_dist.mode()
        return _by_frame((mode - self._mean) * self._inverse_deviation)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (F, 3, H, W) float32 in -1..1 of normalised latents (1, T, C, h, w)."""
        decoding = Decoding()
        return torch.cat([self._next_pictures(latents, decoding) for _ in range(latents.shape[1])])

    def decode_frames(self, latents: Tensor, places: Sequence[int], name: str) -> Tensor:
        """Those pictures of `decode` that stand at some places of the clip, in their order; on the CPU.

        name: of the clip. Where earlier pictures of it were the last that was decoded, and nothing else was done with
        the model, it goes on from there; else from the first latent."""
        decoding = self._decodings.pop(name, None)
        if decoding is None or decoding.place > min(map(latent_of, places)):
            decoding = Decoding()
        found: dict[int, Tensor] = {}
        while decoding.place <= max(map(latent_of, places)):
            first = max(0, FRAMES_A_LATENT * decoding.place - FRAMES_A_LATENT + 1)
            for place, picture in enumerate(self._next_pictures(latents, decoding), first):
                if place in places:
                    found[place] = picture.cpu()
        if decoding.memories and self.tier.offload:
            decoding.memories = wan_decode.moved(decoding.memories, torch.device("cpu"))
        if decoding.place < latents.shape[1]:
            self._decodings = dict([*self._decodings.items(), (name, decoding)][-wan_decode.AT_ONCE :])
        return torch.stack([found[place] for place in places])

    @torch.no_grad()
    def _next_pictures(self, latents: Tensor, decoding: Decoding) -> Tensor:
        """The pictures (1 or 4, 3, H, W) of the clip's next latent."""

        def decoded() -> Tensor:
            unscaled = _by_channel(latents.to(self.device)) / self._inverse_deviation + self._mean
            if self._in_tiles(unscaled) and decoding.whole is None:
                decoding.whole = _frames(self.vae.decode(unscaled).sample).cpu()
            if decoding.whole is not None:
                last = FRAMES_A_LATENT * decoding.place + 1
                return decoding.whole[max(0, last - FRAMES_A_LATENT) : last]
            z = self.vae.post_quant_conv(unscaled)
            memories, decoding.memories = decoding.memories, None
            again = memories is None
            memories = wan_decode.moved(memories or wan_decode.fresh(self.vae), self.device)
            for place in range(0 if again else decoding.place, decoding.place + 1):
                shown = wan_decode.pictures(self.vae, z[:, :, place : place + 1], place, memories)
            decoding.memories = memories
            return _frames(shown)

        pictures = require_finite_pictures(self._held("decoder", decoded))
        decoding.place += 1
        return pictures

    def _in_tiles(self, latents: Tensor) -> bool:
        """Whether the decoder works on latents (1, C, T, h, w) in tiles."""
        (height, width), factor = latents.shape[-2:], self.layout.factor
        wide = width > self.vae.tile_sample_min_width // factor
        return self.tier.tiled and (wide or height > self.vae.tile_sample_min_height // factor)

    # Conditions.

    @torch.no_grad()
    def condition(self, picture: Tensor, frames: int, later: Mapping[int, Tensor] | None = None) -> Conditioning:
        """The conditioning on the first picture (1, 3, H, W) of a clip of 4k + 1 frames; of an image-to-video model.

        later: further pictures of the clip by their place in it, for models that take some (`WanLayout.later`)."""
        if self.layout.expanded:
            return Conditioning(latent=self.encode(picture))
        shown = {0: picture, **(later or {})}
        clip, given = picture.new_zeros(frames, *picture.shape[1:]), torch.zeros(frames)
        for place, each in shown.items():
            clip[place], given[place] = each[0], 1  # 1: given
        latents = self.encode(clip)
        folded = torch.cat([given[:1].expand(FRAMES_A_LATENT), given[1:]]).reshape(1, -1, FRAMES_A_LATENT, 1, 1)
        mask = folded.to(latents).expand(-1, -1, -1, *latents.shape[3:])
        seen = [picture, shown[max(shown)]][: self.layout.pictures]
        image = self._held("image_encoder", lambda: self._image(seen)) if seen else None
        return Conditioning(torch.cat([mask, latents], dim=2), image)

    def _image(self, shown: Sequence[Tensor]) -> Tensor:
        """The image encoder's last hidden states but one of pictures (1, 3, H, W): (pictures, tokens, width)."""
        images = []
        for picture in shown:
            pixels = (picture[0].permute(1, 2, 0).float().cpu().numpy() / 2 + 0.5).clip(0, 1)
            images.append(Image.fromarray((pixels * 255).round().astype("uint8")))
        values = self._image_processor(images=images, return_tensors="pt").pixel_values
        states = self.image_encoder(values.to(self.device, self.dtype), output_hidden_states=True).hidden_states
        image: Tensor = states[-2]
        return image

    @torch.no_grad()
    def control(
        self, video: Tensor, mask: Tensor, references: Tensor | None = None, strength: float = 1.0
    ) -> Conditioning:
        """The conditioning of a VACE model on a clip, a mask of what is to be painted, and further pictures.

        video: (F, 3, H, W). mask: (F, 1, H, W) in 0..1, 1: painted anew; the reverse of `condition`'s. references: (R,
        3, H, W), whose latents come before the clip's, and whose painted ones are to be left out. strength:
        0 to 1 and more.

        Every fourth frame's mask alone is seen (`folded`): it is to be alike in neighbouring frames."""
        hard = (mask > 0.5).to(video)
        parts = [self.encode(video * (1 - hard)), self.encode(video * hard)]
        control = torch.cat([*parts, folded(mask, self.layout.factor).to(self.device)], dim=2)
        for picture in reversed(references if references is not None else []):
            latent = self.encode(picture[None])
            rest = latent.new_zeros(1, 1, control.shape[2] - latent.shape[2], *latent.shape[3:])
            control = torch.cat([torch.cat([latent, rest], dim=2), control], dim=1)
        return Conditioning(control=control, strength=strength)

    # The network.

    def levels(self, steps: int) -> Tensor:
        """The model's noise levels, (steps + 1,), descending to 0."""
        return flow.levels(steps, self.layout.shift).to(self.device)

    def velocity(
        self, condition: Conditioning, text: Tensor, guidance: float = 1.0, negative: Tensor | None = None
    ) -> Velocity:
        """The velocity of latents (1, T, C, h, w) on a condition and a prompt's embeddings (1, 512, width).

        guidance: classifier-free, away from the embeddings `negative`; at 1, or without these, they are left out."""
        if guidance == 1 or negative is None:
            return functools.partial(self._velocity, condition=condition, text=text)
        conditional, unconditional = (
            functools.partial(self._velocity, condition=condition, text=words) for words in (text, negative)
        )
        return lambda x, s: guide(unconditional(x, s), conditional(x, s), guidance)

    @torch.no_grad()
    def _velocity(self, x: Tensor, s: Sigma, condition: Conditioning, text: Tensor) -> Tensor:
        timestep = TIMESTEPS * torch.as_tensor(s, device=self.device)
        part = self._expert(timestep)
        return self._held(part, lambda: self._forward(self._experts[part], x, timestep, condition, text))

    def _expert(self, timestep: Tensor) -> str:
        boundary = self.layout.boundary
        return "transformer" if boundary is None or timestep >= boundary * TIMESTEPS else "transformer_2"

    def _forward(self, network: Any, x: Tensor, timestep: Tensor, condition: Conditioning, text: Tensor) -> Tensor:
        latents, given = _by_channel(x), condition.latent
        others: dict[str, Any] = {}
        steps = timestep.expand(len(x))
        if condition.control is not None:
            layers = torch.full((len(self.layout.layers),), condition.strength)
            others = {
                "control_hidden_states": _by_channel(condition.control).to(self.dtype),
                "control_hidden_states_scale": layers.to(self.device, self.dtype),
            }
        elif self.layout.expanded and given is not None:
            given = _by_channel(given)
            kept = torch.ones_like(latents[:, :1])
            kept[:, :, : given.shape[2]] = 0
            latents = torch.cat([given, latents[:, :, given.shape[2] :]], dim=2)
            patch = self.layout.patch
            steps = (kept[0, 0, :, ::patch, ::patch] * timestep).flatten()[None]
        elif given is not None:
            latents = torch.cat([latents, _by_channel(given)], dim=1)
        if condition.image is not None:
            others["encoder_hidden_states_image"] = condition.image.to(self.dtype)
        output: Tensor = network(
            hidden_states=latents.to(self.dtype),
            timestep=steps,
            encoder_hidden_states=text.to(self.device, self.dtype),
            return_dict=False,
            **others,
        )[0]
        return _by_frame(output.float())


def folded(mask: Tensor, factor: int) -> Tensor:
    """VACE's mask (1, T, factor², h, w) of a pixel mask (F, 1, H, W): each latent's pixels as channels, and of the
    frames, as its authors do, the nearest to the middle of each latent's share. Of 17 frames those are 1, 5, 8, 11 and
    15: a frame whose mask differs from its neighbours' may vanish."""
    frames, _, height, width = mask.shape
    cells = mask[:, 0].reshape(frames, height // factor, factor, width // factor, factor)
    channels = cells.permute(2, 4, 0, 1, 3).flatten(0, 1)[None]
    size = (latent_frames(frames), *channels.shape[3:])
    return _by_frame(torch.nn.functional.interpolate(channels, size=size, mode="nearest-exact"))


def pinned(x: Tensor, latent: Tensor) -> Tensor:
    """Latents (1, T, C, h, w) whose first frame is the given one, (1, 1, C, h, w)."""
    return torch.cat([latent, x[:, 1:]], dim=1)


def _by_channel(latents: Tensor) -> Tensor:
    """(B, T, C, h, w) as (B, C, T, h, w)."""
    return latents.transpose(1, 2)


_by_frame = _by_channel
"""And back."""


def _frames(clip: Tensor) -> Tensor:
    """(F, 3, H, W) of (1, 3, F, H, W)."""
    return clip[0].transpose(0, 1)


def _image_encoder(folder: Path, layout: WanLayout, dtype: torch.dtype) -> tuple[Any, Any]:
    """The image encoder and its processor, where the layout has them."""
    if "image_encoder" not in layout.parts:
        return None, None
    encoder = loading.network(CLIPVisionModelWithProjection, folder, "image_encoder", dtype)
    return encoder, loading.configured(CLIPImageProcessor, folder, "image_processor")


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path, device: str, dtype: torch.dtype, digest: str) -> WanModel:
    return WanModel(folder, torch.device(device), dtype)


def load(folder: Path, kind: str, device: str = "auto", dtype: str = "auto") -> WanModel:
    """The model in a diffusers folder; the one loaded last is kept.

    kind: "wan" or "vace". device: "auto" (a GPU where there is one, else the CPU), or PyTorch's name of one. dtype:
    "auto" (bfloat16 on a GPU, float32 on the CPU), "bf16" or "fp32". Raises PaintoverError for a damaged folder."""
    chosen = accelerators.chosen(device)
    known = {"bf16": torch.bfloat16, "fp32": torch.float32}
    auto = torch.float32 if chosen.kind == "cpu" else torch.bfloat16
    return _loaded(folder, chosen.type, known.get(dtype, auto), digest(folder, kind))
