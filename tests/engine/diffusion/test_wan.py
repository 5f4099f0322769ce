"""The Wan adapter against diffusers' own pipelines, on random weights of each true layout; how it works in less memory;
and what of these models is easily got wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from paintover_engine.diffusion import flow, models, prompt, wan, wan_memory
from paintover_engine.diffusion.memory import GB
from paintover_engine.errors import Code, PaintoverError

from tests.engine import wan_folders
from tests.engine.diffusion.faults import failing
from tests.engine.wan_folders import FRAMES, SHIFT, SIZE

Folders = Callable[[str], Path]
WIDTH, HEIGHT = SIZE


def kind_of(layout: str) -> str:
    return "vace" if layout == "vace" else "wan"


def load(folder: Path) -> wan.WanModel:
    kind = models.locate(str(folder), *models.WAN_KINDS).kind
    return wan.load(folder, kind, "cpu")


def pictures(count: int = FRAMES, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def clip(shown: np.ndarray) -> torch.Tensor:
    """As diffusers reads pictures."""
    return torch.from_numpy(shown.astype(np.float32) / 255).permute(0, 3, 1, 2) * 2 - 1


def noise_for(model: wan.WanModel, frames: int = FRAMES, seed: int = 1) -> torch.Tensor:
    channels, factor = model.layout.channels, model.layout.factor
    shape = (1, wan.latent_frames(frames), channels, HEIGHT // factor, WIDTH // factor)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def embeddings(seed: int) -> torch.Tensor:
    return torch.randn(1, 512, wan_folders.TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


def pipeline_of(folder: Path) -> diffusers.DiffusionPipeline:
    """diffusers' own, with Euler's schedule."""
    loaded = diffusers.DiffusionPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
    loaded.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("layout", wan_folders.IMAGE_TO_VIDEO)
def test_euler_loop_equals_diffusers_bit_for_bit(tiny_wan: Folders, layout: str, guidance: float) -> None:
    folder = tiny_wan(layout)
    model, theirs, shown = load(folder), pipeline_of(folder), pictures(1)
    text, negative, noise = embeddings(5), embeddings(6), noise_for(model)
    given = {
        "image": PIL.Image.fromarray(shown[0]),
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": FRAMES,
        "num_inference_steps": 5,
        "guidance_scale": guidance,
        "prompt_embeds": text,
        "negative_prompt_embeds": negative,
        "latents": noise.transpose(1, 2),
    }
    latents = theirs(**given, output_type="latent").frames
    decoded = theirs(**given, output_type="pt").frames[0]

    condition = model.condition(clip(shown), FRAMES)
    velocity = model.velocity(condition, text, guidance, negative)
    x = flow.euler(velocity, noise, theirs.scheduler.sigmas)
    x = wan.pinned(x, condition.latent) if model.layout.expanded else x
    assert latents.std() > 0.1
    assert torch.equal(x.transpose(1, 2), latents)
    assert torch.equal((model.decode(x) / 2 + 0.5).clamp(0, 1), decoded)


@pytest.mark.parametrize("layout", ["flf2v", "a14b"])
def test_first_and_last_frame_equal_diffusers_bit_for_bit(tiny_wan: Folders, layout: str) -> None:
    """The condition, what the image encoder sees of both, and what comes of it."""
    folder = tiny_wan(layout)
    model, theirs, shown = load(folder), pipeline_of(folder), pictures(2)
    noise = noise_for(model)
    first, last = clip(shown)[:1], clip(shown)[1:]
    condition = model.condition(first, FRAMES, {FRAMES - 1: last})
    _, expected = theirs.prepare_latents(
        first, 1, model.layout.channels, HEIGHT, WIDTH, FRAMES, torch.float32, latents=noise, last_image=last
    )
    assert condition.latent is not None and torch.equal(condition.latent.transpose(1, 2), expected)
    images = [PIL.Image.fromarray(picture) for picture in shown]
    if layout == "flf2v":
        assert condition.image is not None and torch.equal(condition.image, theirs.encode_image(images, "cpu"))
    latents = theirs(
        image=images[0],
        last_image=images[1],
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=2,
        guidance_scale=1.0,
        prompt_embeds=embeddings(5),
        latents=noise.transpose(1, 2),
        output_type="latent",
    ).frames
    x = flow.euler(model.velocity(condition, embeddings(5)), noise, theirs.scheduler.sigmas)
    assert torch.equal(x.transpose(1, 2), latents)
    alone = flow.euler(model.velocity(model.condition(first, FRAMES), embeddings(5)), noise, theirs.scheduler.sigmas)
    assert torch.isfinite(alone).all() and not torch.equal(alone, x)  # of FLF2V, too


def test_frame_inside_the_clip_has_its_own_mask_channel(tiny_wan: Folders) -> None:
    """Frame f of a latent's four stands in channel (f - 1) % 4; the first frame in all of latent 0's."""
    model, shown = load(tiny_wan("a14b")), clip(pictures(3))
    latent = model.condition(shown[:1], FRAMES, {3: shown[1:2], 6: shown[2:]}).latent
    assert latent is not None
    given = latent[0, :, :4, 0, 0].tolist()
    assert given == [[1, 1, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0]]
    clip_of = torch.zeros(FRAMES, *shown.shape[1:])
    clip_of[[0, 3, 6]] = shown
    assert torch.equal(latent[:, :, 4:], model.encode(clip_of))


def test_vace_loop_equals_diffusers_bit_for_bit(tiny_wan: Folders) -> None:
    folder = tiny_wan("vace")
    model, theirs, shown, reference = load(folder), pipeline_of(folder), pictures(), pictures(1, seed=8)
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    mask[:, 8:20, 10:30] = 255
    mask[:, 20:24, 10:30] = 100  # soft: kept in the clips, and seen in the mask's own channels
    noise = torch.cat([noise_for(model, 1, seed=4), noise_for(model)], dim=1)
    latents = theirs(
        prompt_embeds=embeddings(5),
        video=[PIL.Image.fromarray(frame) for frame in shown],
        mask=[PIL.Image.fromarray(frame) for frame in mask],
        reference_images=[PIL.Image.fromarray(reference[0])],
        conditioning_scale=0.8,
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=4,
        guidance_scale=1.0,
        latents=noise.transpose(1, 2),
        output_type="latent",
    ).frames

    control = model.control(clip(shown), (clip(mask[..., None]) + 1) / 2, clip(reference), 0.8)
    x = flow.euler(model.velocity(control, embeddings(5)), noise, theirs.scheduler.sigmas)
    assert torch.equal(x.transpose(1, 2), latents)  # the reference's own latents with them


@pytest.mark.parametrize("layout", wan_folders.LAYOUTS)
def test_first_latent_is_the_first_frame_alone(tiny_wan: Folders, layout: str) -> None:
    model, shown = load(tiny_wan(layout)), clip(pictures())
    latents = model.encode(shown)
    assert latents.shape[1] == wan.latent_frames(FRAMES) == 3
    # To rounding: a shorter clip is convolved by other kernels on some processors.
    assert torch.allclose(latents[:, :1], model.encode(shown[:1]), rtol=0, atol=1e-6)


def test_later_latents_touch_no_earlier_frames(tiny_wan: Folders) -> None:
    model = load(tiny_wan("i2v"))
    latents = model.encode(clip(pictures()))
    changed = latents.clone()
    changed[:, 2] += 1
    difference = (model.decode(changed) - model.decode(latents)).abs().amax((1, 2, 3))
    assert (difference[:5] == 0).all()
    assert (difference[5:] > 0).all()


def counted_latents(model: wan.WanModel) -> tuple[list[int], Callable[[], None]]:
    """How many latents the decoder was given, call by call; and what ends the counting."""
    seen: list[int] = []
    hook = model.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[2]))
    return seen, hook.remove


@pytest.mark.parametrize("layout", ["i2v", "ti2v"])
def test_frames_decoded_in_parts_equal_the_whole_clip(tiny_wan: Folders, layout: str) -> None:
    """Bit for bit, two clips in turn, each latent decoded once; and again from the first one where that is needed."""
    model = wan.WanModel(tiny_wan(layout), torch.device("cpu"), torch.float32)
    clips = {name: noise_for(model, 17, seed) for seed, name in enumerate("ab")}
    config = model.vae.config
    mean, deviation = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    whole = {
        name: model.vae.decode(latents.transpose(1, 2) / (1.0 / deviation) + mean).sample[0].transpose(0, 1)
        for name, latents in clips.items()
    }
    seen, stop = counted_latents(model)
    for places in ([1, 2, 3, 4], [8, 6, 7, 5], [13, 16]):
        for name, latents in clips.items():
            assert torch.equal(model.decode_frames(latents, places, name), whole[name][places])
    assert len(seen) == 2 * 5
    assert torch.equal(model.decode_frames(clips["a"], [3], "a"), whole["a"][3:4])
    assert torch.equal(model.decode_frames(clips["a"], [2], "a"), whole["a"][2:3])  # before where it stands
    assert len(seen) == 10 + 2 + 2
    model.encode(clip(pictures(1)))  # other work has the device
    assert torch.equal(model.decode_frames(clips["a"], [5], "a"), whole["a"][5:6])
    assert len(seen) == 14 + 3
    stop()


def test_lack_of_memory_inside_a_clip_changes_nothing(tiny_wan: Folders) -> None:
    model = wan.WanModel(tiny_wan("a14b"), torch.device("cpu"), torch.float32)
    latents = noise_for(model)
    expected = model.decode(latents)
    assert torch.equal(model.decode_frames(latents, [0, 1], "clip"), expected[:2])
    with failing(model.vae.decoder.conv_out, torch.OutOfMemoryError("CUDA out of memory."), {1}):
        assert torch.equal(model.decode_frames(latents, [6, 8], "clip"), expected[[6, 8]])
    assert len(model.notes) == 1


@pytest.mark.parametrize("layout", ["i2v", "a14b"])
def test_mask_of_the_condition_says_what_is_given(tiny_wan: Folders, layout: str) -> None:
    """1 is given, 0 is to be painted: the reverse of VACE's."""
    model, shown = load(tiny_wan(layout)), clip(pictures(1))
    latent = model.condition(shown, FRAMES).latent
    assert latent is not None and latent.shape[2] == 4 + model.layout.channels
    assert (latent[:, 0, :4] == 1).all() and (latent[:, 1:, :4] == 0).all()
    assert torch.equal(latent[:, :1, 4:], model.encode(shown))
    grey = model.encode(torch.cat([shown, torch.zeros(FRAMES - 1, *shown.shape[1:])]))
    assert torch.equal(latent[:, :, 4:], grey)


@pytest.mark.parametrize(("layout", "multiple"), [("i2v", 16), ("ti2v", 32)])
def test_pictures_are_whole_tokens_and_the_vae_is_exact(tiny_wan: Folders, layout: str, multiple: int) -> None:
    """In half precision the VAE alone stays in float32: its difference is what an edit is."""
    assert models.video_shape(tiny_wan(layout)).multiple == multiple
    model = wan.WanModel(tiny_wan(layout), torch.device("cpu"), torch.bfloat16)
    assert {weight.dtype for weight in model.vae.parameters()} == {torch.float32}
    assert model._experts["transformer"].dtype == torch.bfloat16
    assert model.encode(clip(pictures(1))).dtype == model.decode(noise_for(model, 1)).dtype == torch.float32


def test_prompt_has_the_length_that_networks_expect(tiny_wan: Folders) -> None:
    """2.1 splits a picture's tokens from a prompt's by that length alone."""
    model, x = load(tiny_wan("i2v")), noise_for(load(tiny_wan("i2v")))
    condition = model.condition(clip(pictures(1)), FRAMES)
    text = prompt.padded(prompt.TextModel(model.folder, torch.device("cpu"), torch.float32).encode(""))
    assert text.shape == (1, 512, wan_folders.TEXT_WIDTH)
    assert torch.isfinite(model.velocity(condition, text)(x, torch.tensor(0.5))).all()
    other = condition.image is not None and model.velocity(
        wan.Conditioning(condition.latent, condition.image + 1), text
    )(x, torch.tensor(0.5))
    assert not torch.equal(other, model.velocity(condition, text)(x, torch.tensor(0.5)))


def test_experts_share_the_levels_at_their_boundary(tiny_wan: Folders) -> None:
    model = load(tiny_wan("a14b"))
    asked: list[str] = []
    hooks = [
        expert.register_forward_pre_hook(lambda *_, part=part: asked.append(part))
        for part, expert in model._experts.items()
    ]
    velocity = model.velocity(model.condition(clip(pictures(1)), FRAMES), embeddings(5))
    for level in (1.0, 0.9, 0.8999, 0.1):
        velocity(noise_for(model), torch.tensor(level))
    for hook in hooks:
        hook.remove()
    assert asked == ["transformer", "transformer", "transformer_2", "transformer_2"]


def test_ti2v_keeps_its_first_frame_clean(tiny_wan: Folders) -> None:
    model = load(tiny_wan("ti2v"))
    condition = model.condition(clip(pictures(1)), FRAMES)
    velocity, x = model.velocity(condition, embeddings(5)), noise_for(model)
    seen: list[dict[str, torch.Tensor]] = []
    network = model._experts["transformer"]
    hook = network.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    first = velocity(x, torch.tensor(0.5))
    other = velocity(wan.pinned(x, x[:, :1] + 3), torch.tensor(0.5))
    hook.remove()
    tokens = seen[0]["timestep"].reshape(3, -1)
    assert (tokens[0] == 0).all() and (tokens[1:] == 500).all()
    assert torch.equal(first, other)  # its own latents there are never looked at


def test_lone_mask_of_a_frame_vanishes() -> None:
    """Why a mask is to be alike in neighbouring frames."""
    seen = []
    for frame in range(17):
        mask = torch.zeros(17, 1, 16, 16)
        mask[frame] = 1
        seen.append(bool(wan.folded(mask, 8).any()))
    assert [frame for frame, shown in enumerate(seen) if shown] == [1, 5, 8, 11, 15]
    assert wan.folded(torch.ones(17, 1, 16, 16), 8).shape == (1, 5, 64, 2, 2)


def test_vace_mask_is_white_where_it_paints(tiny_wan: Folders) -> None:
    model, shown = load(tiny_wan("vace")), clip(pictures())
    nothing, whole = torch.zeros(FRAMES, 1, HEIGHT, WIDTH), torch.ones(FRAMES, 1, HEIGHT, WIDTH)
    channels, latents, grey = model.layout.channels, model.encode(shown), model.encode(0 * shown)
    kept, painted = (model.control(shown, mask).control for mask in (nothing, whole))
    assert kept is not None and painted is not None
    assert torch.equal(kept[:, :, :channels], latents) and torch.equal(kept[:, :, channels : 2 * channels], grey)
    assert torch.equal(painted[:, :, :channels], grey) and torch.equal(painted[:, :, channels : 2 * channels], latents)
    assert kept.shape[2] == 2 * channels + 64 and not kept[:, :, 2 * channels :].any()


# Folders.


@pytest.mark.parametrize("how", [{"variant": "fp16"}, {"max_shard_size": "40KB"}], ids=["fp16", "sharded"])
def test_variants_of_weights_load(tmp_path: Path, wan_layout: str, how: dict[str, str]) -> None:
    plain = load(wan_folders.save(wan_layout, tmp_path / "plain"))
    folder = wan_folders.save(wan_layout, tmp_path / "other", **how)
    files = {file.name for file in (folder / "transformer").glob("*.safetensors")}
    assert any(".fp16." in name for name in files) if "variant" in how else len(files) > 1
    other = load(folder)
    for part, expert in plain._experts.items():
        theirs = other._experts[part].state_dict()
        assert all(torch.equal(theirs[name], weight) for name, weight in expert.state_dict().items())


@pytest.mark.parametrize("part", ["transformer", "vae", "scheduler"])
def test_incomplete_wan_folder_names_the_part(tiny_wan: Folders, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(tiny_wan("i2v"), tmp_path / "model"))
    shutil.rmtree(folder / part)
    with pytest.raises(PaintoverError, match=rf"{part} is missing|damaged"):
        models.locate(str(folder), "wan")


def test_pickled_wan_weights_are_refused(tiny_wan: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_wan("a14b"), tmp_path / "model"))
    weights = folder / "transformer_2" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(PaintoverError, match="transformer_2 are pickles"):
        models.locate(str(folder), "wan")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("transformer/config.json", {"in_channels": 33}, "takes 33 channels, not 36"),
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "predicts 'epsilon', not a flow"),
        ("paintover.json", {"frames": 10}, r"windows of 10 frames are not of 4k \+ 1"),
        ("model_index.json", {"_class_name": "WanPipeline"}, "of another kind; this method needs an image-to-video"),
        ("model_index.json", {"boundary_ratio": 0.9}, "one of its two transformers is missing"),
    ],
)
def test_wan_folder_that_cannot_serve_is_refused(
    tiny_wan: Folders, tmp_path: Path, file: str, values: dict[str, object], said: str
) -> None:
    folder = Path(shutil.copytree(tiny_wan("i2v"), tmp_path / "model"))
    change(folder / file, **values)
    with pytest.raises(PaintoverError, match=said):
        models.locate(str(folder), "wan")


def test_ti2v_is_found_under_the_text_pipelines_name(tiny_wan: Folders, tmp_path: Path) -> None:
    """As TI2V-5B is published."""
    folder = Path(shutil.copytree(tiny_wan("ti2v"), tmp_path / "model"))
    change(folder / "model_index.json", _class_name="WanPipeline")
    assert models.locate(str(folder), "wan").kind == "wan"


# Memory.


@contextmanager
def tier_of(model: wan.WanModel, name: str) -> Iterator[None]:
    before = model.tier
    model.tier = next(tier for tier in wan_memory.TIERS if tier.name == name)
    try:
        yield
    finally:
        model.tier = before


@pytest.mark.parametrize("layout", ["a14b", "vace"])
def test_streamed_blocks_give_the_same(tmp_path: Path, layout: str) -> None:
    folder = wan_folders.save(layout, tmp_path / "model")
    model = wan.WanModel(folder, torch.device("cpu"), torch.float32)
    if layout == "vace":
        condition = model.control(clip(pictures()), torch.ones(FRAMES, 1, HEIGHT, WIDTH))
    else:
        condition = model.condition(clip(pictures(1)), FRAMES)
    velocity, x = model.velocity(condition, embeddings(5)), noise_for(model)
    whole = [velocity(x, torch.tensor(level)) for level in (0.95, 0.5)]
    with tier_of(model, "8 GB"):
        streamed = [velocity(x, torch.tensor(level)) for level in (0.95, 0.5, 0.95)]
    assert all(torch.equal(a, b) for a, b in zip(whole, streamed, strict=False))
    assert torch.equal(streamed[0], streamed[2])


def test_tiles_are_used_in_the_smallest_tier_alone(tiny_wan: Folders) -> None:
    model = wan.WanModel(tiny_wan("a14b"), torch.device("cpu"), torch.float32)
    wide = torch.rand(1, 3, 32, 512, generator=torch.Generator().manual_seed(4)) * 2 - 1
    whole = model.encode(wide)
    with tier_of(model, "8 GB"):
        tiled = model.encode(wide)
    assert not torch.equal(whole, tiled)
    assert (whole - tiled).abs().mean() < 0.1 * whole.std()
    assert torch.equal(model.encode(wide), whole)
    expected = model.decode(whole)
    with tier_of(model, "8 GB"):
        tiled = model.decode(whole)
    assert not torch.equal(expected, tiled) and (expected - tiled).abs().mean() < 0.1 * expected.std()


def test_out_of_memory_goes_on_in_the_next_tier(tiny_wan: Folders) -> None:
    model = wan.WanModel(tiny_wan("a14b"), torch.device("cpu"), torch.float32)
    expected = model.encode(clip(pictures()))
    with failing(model.vae.encoder, torch.OutOfMemoryError("CUDA out of memory."), {1}):
        assert torch.equal(model.encode(clip(pictures())), expected)
    assert model.notes == ["The computer's memory ran out; going on in the tier for 48 GB."]


A14B = {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13824, "in_channels": 36}
TI2V = {"num_layers": 30, "num_attention_heads": 24, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48}
TI2V_VAE = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "scale_factor_spatial": 16,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "latents_mean": [0] * 48,
    "latents_std": [1] * 48,
}
"""The configurations of published models."""


def write_true(folder: Path, transformer: dict[str, object], vae: dict[str, object], boundary: float | None) -> Path:
    """The JSON files of a published model's folder."""
    configuration = {"attention_head_dim": 128, "text_dim": 4096, "out_channels": 16, **transformer}
    files = {
        "transformer/config.json": configuration,
        "vae/config.json": vae,
        "scheduler/scheduler_config.json": {"flow_shift": 5.0, "prediction_type": "flow_prediction"},
        **({"transformer_2/config.json": configuration} if boundary else {}),
    }
    index: dict[str, object] = {
        "_class_name": "WanImageToVideoPipeline",
        "expand_timesteps": not boundary,
        "boundary_ratio": boundary,
        **{file.partition("/")[0]: ["diffusers", "x"] for file in files},
    }
    for file, values in {**files, "model_index.json": index}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(values))
    return folder


def test_true_models_fit_the_cards_that_tiers_are_named_after(tmp_path: Path) -> None:
    """2.2 A14B, 81 frames of 832x480: 28.6 GB of weights a transformer."""
    folder = write_true(tmp_path, A14B, {}, boundary=0.9)
    needs = wan_memory.needs(folder, torch.bfloat16, 81, 480, 832)
    assert needs.weights["transformer"] == needs.weights["transformer_2"] == pytest.approx(28.6 * GB, rel=0.01)
    peaks = {tier.name: needs.peak(tier) / GB for tier in wan_memory.TIERS}
    for name, peak in peaks.items():
        assert peak < 0.93 * float(name.removesuffix(" GB"))
    assert list(peaks.values()) == sorted(peaks.values(), reverse=True)


def test_ti2v_5b_fits_a_card_of_eight_gigabytes(tmp_path: Path) -> None:
    needs = wan_memory.needs(write_true(tmp_path, TI2V, TI2V_VAE, boundary=None), torch.bfloat16, 121, 704, 1280)
    assert needs.weights["transformer"] == pytest.approx(10.0 * GB, rel=0.01)
    assert needs.peak(wan_memory.TIERS[-1]) < 7.5 * GB


def test_too_little_memory_names_what_is_needed(tiny_wan: Folders) -> None:
    needs = wan_memory.needs(tiny_wan("i2v"), torch.float32, 9, 32, 64)
    said = r"9 frames of 64x32 take .* GB of the GPU's memory.*smaller working size"
    with pytest.raises(PaintoverError, match=said) as caught:
        wan_memory.chosen(needs, 1000.0, "The GPU's", (9, 32, 64))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert wan_memory.chosen(needs, None, "The GPU's", (9, 32, 64)) is wan_memory.TIERS[0]
