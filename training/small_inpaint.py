"""Trains `small-inpaint`: a pipeline of Stable Diffusion 1.5 Inpainting's classes, small enough for two CPU cores.

    python training/small_inpaint.py vae  --out DIR    # 2 minutes: the decoder; the encoder is a fixed linear code
    python training/small_inpaint.py clip --out DIR    # 5 minutes: contrastive, on captions of some twenty words
    python training/small_inpaint.py unet --out DIR --minutes 50   # resumes where it stopped
    python training/small_inpaint.py export --out DIR --to engine/paintover_engine/models/small-inpaint

All data is made by `paintover_evaluation.grids`; worlds of seeds below 1000 are kept for evaluation.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkpoints import Checkpoint, average, descend, load_part
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from paintover_engine.diffusion import clip_direction
from paintover_evaluation import grids
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, mse_loss
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

CELL = 24
TOKENS = 16
WIDTH = 64
LAMBDA1 = 0.7
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WORDS = [*grids.COLOURS, *grids.SHAPES, "with", "dot", "on", "in", "light"]

# --- the autoencoder: a linear 2×2 code in, a trained decoder out -----------------------------------------------------

LEVEL = 12.0  # of the constant channels that carry a signal's mean through a norm of four channels
LINEAR = 12.0  # where SiLU is linear enough
RATE = 3e-5  # the levels make the trunk steep: more spoils the linear start
MEAN = 2.0  # latents are this much larger than the mean colour they tell, for a variance near one


def make_vae() -> AutoencoderKL:
    """Four latents a 2×2 patch. Every norm group of the trunk's end is (signal, -signal, level, -level), so that the
    norm divides by the level and keeps the signal's mean; all residual branches begin at zero."""
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=2 * CELL,
        scaling_factor=1.0,
    )
    for name, module in vae.named_modules():
        if name.endswith(("conv2", "to_out.0")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    encoder, decoder = vae.encoder, vae.decoder
    _spread(encoder.conv_in, torch.eye(3)[..., None, None].expand(3, 3, 1, 1), corner=1)
    signals = torch.zeros(4, 32, 2, 2)
    signals[:, 0:12:4] = _patch_code()
    _spread(encoder.down_blocks[0].downsamplers[0].conv, signals, corner=0)
    _read(encoder, torch.eye(4))
    with torch.no_grad():
        encoder.conv_out.bias[4:] = -30.0  # a code without noise
        for conv in (vae.quant_conv, vae.post_quant_conv):
            conv.weight.copy_(torch.eye(conv.weight.shape[0])[..., None, None])
            conv.bias.zero_()
        _spread(decoder.conv_in, torch.eye(4)[..., None, None], corner=1)
        upsampler = decoder.up_blocks[0].upsamplers[0].conv
        nn.init.dirac_(upsampler.weight)
        upsampler.bias.zero_()
        _read(decoder, torch.eye(3, 4) / MEAN)
    return vae


def _patch_code() -> Tensor:
    """(4, 3, 2, 2): mean red, green and blue of a patch, each of about unit variance, and its vertical + horizontal
    luma detail."""
    code = torch.zeros(4, 3, 2, 2)
    for channel in range(3):
        code[channel, channel] = MEAN / 4
    code[3] = torch.tensor([[1.0, 0.0], [0.0, -1.0]]) * 1.5
    return code


def _spread(conv: nn.Conv2d, signals: Tensor, corner: int) -> None:
    """Sets a convolution to give each signal (a kernel over the inputs) as a group (s, -s, level, -level)."""
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        height, width = signals.shape[2:]
        for index, kernel in enumerate(signals):
            place = np.s_[:, corner : corner + height, corner : corner + width]
            conv.weight[4 * index][place], conv.weight[4 * index + 1][place] = kernel, -kernel
        conv.bias[2::4], conv.bias[3::4] = LEVEL, -LEVEL


def _read(end: Any, matrix: Tensor) -> None:
    """Sets `conv_norm_out` and `conv_out` of an encoder or decoder to give `matrix` times the trunk's signals."""
    with torch.no_grad():
        scale = LEVEL / math.sqrt(2)
        end.conv_norm_out.weight.fill_(scale)
        end.conv_norm_out.bias.fill_(LINEAR)
        end.conv_out.weight.zero_()
        end.conv_out.bias.zero_()
        rows, columns = matrix.shape
        for column in range(columns):
            end.conv_out.weight[:rows, 4 * column, 1, 1] = matrix[:, column] / 2
            end.conv_out.weight[:rows, 4 * column + 1, 1, 1] = -matrix[:, column] / 2


def train_vae(out: Path, steps: int) -> None:
    """The decoder alone; what it starts from is each patch's mean colour."""
    vae = make_vae()
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    optimiser = torch.optim.AdamW(vae.decoder.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    for step, worlds in zip(range(steps), _worlds(1000, 12), strict=False):
        frames = grids.render(worlds, _times(worlds, step), CELL, CELL)
        picture = _signed(np.concatenate([frames.source, frames.edited]))
        with torch.no_grad():
            latent = vae.encode(picture).latent_dist.mode()
        loss = mse_loss(vae.decode(latent).sample, picture)
        descend(loss, optimiser)
        schedule.step()
        if step % 50 == 0:
            report(step=step, psnr=round(10 * math.log10(4 / loss.item()), 2), std=latent.std((0, 2, 3)).tolist())
    vae.save_pretrained(out / "vae")


# --- CLIP: a tiny one, contrastive --------------------------------------------------------------------------------


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with merges for our words alone."""
    letters = sorted(set("".join(WORDS)) | {"a"})
    merges, known = [], [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in WORDS:
        left = word[0]
        for index, letter in enumerate(word[1:], start=1):
            right = f"{letter}</w>" if index == len(word) - 1 else letter
            if left + right not in known:
                merges.append((left, right))
                known.append(left + right)
            left += right
    vocabulary = {token: index for index, token in enumerate([*known, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Both towers and their projections; the text's is square, as CLIP ViT-L/14's is."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4, "projection_dim": WIDTH}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=TOKENS,
        num_hidden_layers=2,
        pad_token_id=tokenizer.pad_token_id,
        **ids,
        **shape,
    )
    vision = CLIPVisionConfig(image_size=CELL, patch_size=6, num_hidden_layers=3, **shape)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH))


def train_clip(out: Path, steps: int) -> None:
    """Contrastive over source and edited frames and their captions, so that an image difference tells the edit."""
    tokenizer = make_tokenizer(out / "tokenizer")
    clip = make_clip(tokenizer)
    optimiser = torch.optim.AdamW(clip.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    for step, worlds in zip(range(steps), _worlds(2000, 64), strict=False):
        frames = grids.render(worlds, _times(worlds, step), CELL, CELL)
        lines = [line for side in grids.captions(worlds) for line in side]
        ids = tokenizer(lines, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        found = clip(
            input_ids=ids.input_ids,
            pixel_values=_clip_pixels(torch.from_numpy(np.concatenate([frames.source, frames.edited]))),
        )
        same = _same(lines)
        targets = same / same.sum(1, keepdim=True)
        loss = sum(
            -(targets * logits.log_softmax(-1)).sum(-1).mean()
            for logits in (found.logits_per_image, found.logits_per_text)
        )
        descend(loss, optimiser)
        schedule.step()
        if step % 50 == 0:
            hit = same[torch.arange(len(lines)), found.logits_per_image.argmax(-1)].mean()
            report(step=step, loss=round(loss.item(), 3), retrieved=round(hit.item(), 3))
    clip.save_pretrained(out / "clip")


def _same(lines: list[str]) -> Tensor:
    index = {line: number for number, line in enumerate(dict.fromkeys(lines))}
    numbers = torch.tensor([index[line] for line in lines])
    return (numbers[:, None] == numbers[None]).float()


def _clip_pixels(pictures: Tensor) -> Tensor:
    """(n, h, w, 3) 0..1 -> (n, 3, h, w) as CLIP normalises."""
    return ((pictures - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).permute(0, 3, 1, 2)


# --- the UNet ------------------------------------------------------------------------------------------------------


def make_unet() -> UNet2DConditionModel:
    """Stable Diffusion's kinds of blocks: attention at half and quarter of the latents' size."""
    return UNet2DConditionModel(
        sample_size=CELL,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 2, 3),
        norm_num_groups=8,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas; the network predicts v, which a small one learns sooner than noise at high noise."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


class Examples:
    """Batches for the UNet: a grid, what is noised in its answer cell, and the prompt."""

    def __init__(self, out: Path) -> None:
        self.code = _patch_code()
        self.clip = CLIPModel.from_pretrained(out / "clip").float().requires_grad_(False).eval()
        tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
        ids = tokenizer([""], padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
        hidden = self.clip.text_model(input_ids=ids).last_hidden_state
        end = int((ids[0] == tokenizer.eos_token_id).nonzero()[0])
        self.space = clip_direction.TextSpace(hidden, end, self.clip.text_projection.weight)

    def encode(self, pictures: np.ndarray[Any, Any]) -> Tensor:
        """What the VAE's encoder computes by the way of its norms, to a few thousandths."""
        return conv2d(_signed(pictures), self.code, stride=2)

    def embed(self, pictures: np.ndarray[Any, Any]) -> Tensor:
        vision = self.clip.vision_model(pixel_values=_clip_pixels(torch.from_numpy(pictures)))
        found: Tensor = self.clip.visual_projection(vision.pooler_output)
        return found

    def batch(self, worlds: grids.Worlds, rng: np.random.Generator, hidden: float = 0.0) -> dict[str, Tensor]:
        """grid: (n, 4, 2h, 2w) latents with the answer in place; start: the same with the question in the answer's
        cell; masked: the same with grey there; prompt: (n, tokens, width). One prompt in eight is empty.

        hidden: the share of the other grids whose edited example is grey, so that the prompt alone tells the edit."""
        count = len(worlds)
        example, query = (grids.render(worlds, rng.uniform(size=count), CELL, CELL) for _ in range(2))
        cells = self.encode(np.concatenate([example.source, example.edited, query.source, query.edited])).chunk(4)
        grey = self.encode(np.full((1, CELL, CELL, 3), 0.5, np.float32)).expand_as(cells[0])
        towards = clip_direction.direction(self.embed(example.source), self.embed(example.edited))
        prompted = torch.from_numpy(rng.uniform(size=count) > 0.125)
        towards *= prompted[:, None]
        if hidden:
            alone = prompted & torch.from_numpy(rng.uniform(size=count) < hidden)
            cells = (cells[0], torch.where(alone[:, None, None, None], grey, cells[1]), *cells[2:])
        return {
            "grid": tile(*cells),
            "start": tile(*cells[:3], cells[2]),
            "masked": tile(*cells[:3], grey),
            "prompt": clip_direction.prompt(towards.float(), self.space, LAMBDA1),
        }


def tile(*cells: Tensor) -> Tensor:
    """Four cells, in reading order, as one grid."""
    return torch.cat([torch.cat(cells[:2], -1), torch.cat(cells[2:], -1)], -2)


def train_unet(
    out: Path, minutes: float, batch: int, save_every: float, start: Path | None = None, hidden: float = 0.0
) -> None:
    """Trains until `minutes` of this run are over, or resumes what an earlier run of the same length left. start: an
    exported UNet's weights, for a new run. hidden: as of `Examples.batch`.

    Half of the examples noise the *question* in the answer's cell: at high noise that is what sampling starts from, and
    it teaches the network to take the look from the grid, not from the noise."""
    examples, unet, scheduler = Examples(out), make_unet().to(memory_format=torch.channels_last), make_scheduler()
    if start is not None:
        unet.load_state_dict({name: value.float() for name, value in load_file(start).items()})
    mean = copy.deepcopy(unet).requires_grad_(False)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.01)
    point = Checkpoint(out / "unet.safetensors", 0, save_every * 60, unet=unet, mean=mean, optimiser=optimiser)
    point.load()
    alphas = scheduler.alphas_cumprod
    losses: list[float] = []
    while (elapsed := point.seconds) < minutes * 60:
        rng = np.random.default_rng(10_000 + point.step)
        torch.manual_seed(10_000 + point.step)
        kinds = (*tuple(grids.GridEdit)[1:] * 2, grids.GridEdit.NONE)
        data = examples.batch(grids.sample(rng, batch, kinds), rng, hidden)
        t = torch.where(torch.rand(batch) < 0.7, torch.randint(400, 1000, (batch,)), torch.randint(0, 1000, (batch,)))
        a = alphas[t][:, None, None, None]
        from_start = (torch.rand(batch) < 0.5) & (t > 500)
        clean = torch.where(from_start[:, None, None, None], data["start"], data["grid"])
        noisy = a.sqrt() * clean + (1 - a).sqrt() * torch.randn_like(clean)
        mask = answer_mask(batch, clean.shape[-2:])
        given = torch.cat([noisy, mask, data["masked"]], 1).contiguous(memory_format=torch.channels_last)
        v = unet(given, t, data["prompt"]).sample
        estimate = a.sqrt() * noisy - (1 - a).sqrt() * v
        weight = (1 / (1 - a)).clamp(max=5.0) * (0.1 + 3.6 * mask)
        loss = (weight * (estimate - data["grid"]) ** 2).mean()
        falling = 0.5 + 0.5 * math.cos(math.pi * elapsed / (minutes * 60))
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1, (point.step + 1) / 100) * falling + 1e-5
        descend(loss, optimiser)
        losses.append(loss.item())
        average(mean, unet, 1 - min(0.998, (point.step + 1) / (point.step + 20)))
        point.step += 1
        if point.step % 50 == 0:
            report(step=point.step, seconds=round(elapsed), loss=round(float(np.mean(losses[-50:])), 4))
        point.save()
    point.save(now=True)
    report(saved=point.step)


def answer_mask(count: int, size: tuple[int, int]) -> Tensor:
    """(n, 1, 2h, 2w): 1 in the answer's cell."""
    mask = torch.zeros(count, 1, *size)
    mask[..., size[0] // 2 :, size[1] // 2 :] = 1
    return mask


SAMPLING = {"strength": 0.9, "guidance": 1.0}
"""What benchmarks/vp4.py finds best for it."""


# --- the shipped folder ---------------------------------------------------------------------------------------------


def export(out: Path, to: Path) -> None:
    """Writes the diffusers folder in fp16, whole or not at all; keeps the README that is there."""
    examples = Examples(out)
    unet = make_unet()
    unet.load_state_dict(load_part(out / "unet.safetensors", "mean"))
    text = CLIPTextModel(examples.clip.config.text_config)
    text.load_state_dict(examples.clip.text_model.state_dict())
    pipeline = StableDiffusionInpaintPipeline(
        vae=AutoencoderKL.from_pretrained(out / "vae"),
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(out / "tokenizer"),
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    new = Path(tempfile.mkdtemp(dir=to.parent, prefix=".new-"))
    pipeline.to(torch.float16).save_pretrained(new)
    examples.clip.half().save_pretrained(new / "clip")
    (new / "clip" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "size": CELL}, indent=2) + "\n"
    )
    (new / "paintover.json").write_text(json.dumps(SAMPLING, indent=2) + "\n")
    if (to / "README.md").exists():
        shutil.copy(to / "README.md", new)
    for path in (new, *new.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if to.exists():
        shutil.rmtree(to)
    new.rename(to)
    report(exported=str(to), megabytes=sum(file.stat().st_size for file in to.rglob("*") if file.is_file()) / 1e6)


# --- shared ---------------------------------------------------------------------------------------------------------


def _worlds(seed: int, count: int) -> Iterator[grids.Worlds]:
    rng = np.random.default_rng(seed)
    while True:
        yield grids.sample(rng, count)


def _times(worlds: grids.Worlds, step: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(step).uniform(size=len(worlds))


def _signed(pictures: np.ndarray[Any, Any]) -> Tensor:
    """(n, h, w, 3) 0..1 -> (n, 3, h, w) -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) * 2 - 1


def report(**values: Any) -> None:
    """One JSON line."""
    print(json.dumps(values), flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["vae", "clip", "unet", "export"])
    parser.add_argument("--out", type=Path, required=True, help="the training's folder")
    parser.add_argument("--to", type=Path, help="export: the model's folder")
    parser.add_argument("--steps", type=int, default=600, help="of vae and clip")
    parser.add_argument("--minutes", type=float, default=50.0, help="unet: in all its runs together")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--start", type=Path, help="unet: an exported UNet's file, to begin a new run with")
    parser.add_argument("--hidden", type=float, default=0.0, help="unet: share of grids without their edited example")
    parser.add_argument("--save-every", type=float, default=5.0, help="minutes")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    given.out.mkdir(parents=True, exist_ok=True)
    if given.stage == "vae":
        train_vae(given.out, given.steps)
    elif given.stage == "clip":
        train_clip(given.out, given.steps)
    elif given.stage == "unet":
        train_unet(given.out, given.minutes, given.batch, given.save_every, given.start, given.hidden)
    else:
        export(given.out, given.to)


if __name__ == "__main__":
    main()
