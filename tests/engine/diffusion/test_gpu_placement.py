"""Every method on a GPU that is only pretended: each tensor is where it belongs, in every memory tier, and the result
is the CPU's, also where memory runs out at any operation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from paintover_engine.diffusion import (  # noqa: E402
    accelerators,
    i2vedit,
    inpaint,
    lora,
    memory,
    models,
    sampling,
    schedule,
    svd,
    training,
    videoshop,
    vp4,
)

from tests.engine.diffusion import pretend_gpu  # noqa: E402
from tests.parity.vectors import TINY_INPAINT, TINY_SVD, pictures, vectors  # noqa: E402

FRAMES = 2
pytestmark = pytest.mark.timeout(400)  # ten thousand operations, each in Python: seconds on an idle core

TOLERANCE = 1e-4
"""Of the largest value: the CPU computes both, in other pieces."""


@functools.cache
def clip() -> tuple[Any, Any]:
    reference = vectors("videoshop")
    return pictures(reference["frames"][:FRAMES]), pictures(reference["edited"][None])


def run_videoshop(model: Any) -> Any:
    frames, edited = clip()
    settings = videoshop.VideoshopSettings(steps=3, strength=0.7, guidance=3)
    latents = videoshop.edit(model, model.encode(frames), frames[:1], edited, settings)
    return model.decode(latents)


def run_i2vedit(model: Any, later: bool = False) -> Any:
    """A window with adapters and matching, without training. later: then a second one, which attends to the first."""
    frames, edited = clip()
    sigmas, settings = model.config.sigmas(2), i2vedit.EditSettings(bounds=(0.5, 0.5), threshold=0.2)
    z = model.encode(frames)
    source, shown = (model.condition(picture, noise_aug=0.02, seed=1) for picture in (frames[:1], edited))
    first = i2vedit.SourceWindow(i2vedit.invert(model, z, source, sigmas), source)
    second = None
    if later:
        second = i2vedit.SourceWindow(i2vedit.invert(model, z.flip(1), source, sigmas, first=first), source)
    with lora.Adapters(model.unet, rank=2) as adapters:
        for name in ("window", "first"):
            adapters.add(name, seed=1)
            for number, weight in enumerate(adapters.train(name)):
                noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
                weight.data.copy_(0.1 * noise.to(weight.device))
        adapters.train(None)
        painted = i2vedit.denoise(model, first, shown, sigmas, settings, adapters=adapters)
        if second is None:
            return painted
        window = i2vedit.EditedWindow(first, shown, painted)
        return i2vedit.denoise(model, second, shown, sigmas, settings, adapters=adapters, first=window)


def run_vp4(model: Any) -> Any:
    reference = vectors("vp4")
    pair = pictures(reference["grid_exemplar"][None]), pictures(reference["grid_painted"][None])
    source = model.encode(pictures(reference["grid_frames"][:FRAMES]))
    still = torch.zeros(FRAMES, *source.shape[-2:], 2)
    settings = vp4.VP4Settings(steps=3, guidance=3, cloning=1.3, consistency_steps=3)
    latents = vp4.edit(model, pair, source, vp4.FlowPair(still, still), settings)
    return model.decode(latents)


METHODS: dict[str, tuple[Callable[[Any], Any], Callable[[str], Any]]] = {
    "videoshop": (run_videoshop, lambda device: svd.VideoModel(TINY_SVD, torch.device(device), torch.float32)),
    "i2vedit": (run_i2vedit, lambda device: svd.VideoModel(TINY_SVD, torch.device(device), torch.float32)),
    "skip-interval": (
        functools.partial(run_i2vedit, later=True),
        lambda device: svd.VideoModel(TINY_SVD, torch.device(device), torch.float32),
    ),
    "vp4": (
        run_vp4,
        lambda device: inpaint.InpaintModel(TINY_INPAINT, TINY_INPAINT / "clip", torch.device(device), torch.float32),
    ),
}


@functools.cache
def expected(method: str) -> Any:
    torch.set_num_threads(1)
    run, load = METHODS[method]
    return run(load("cpu"))


def assert_is_the_cpus(result: Any, method: str) -> None:
    reference = expected(method)
    error = float((result.cpu() - reference).abs().max() / reference.abs().max())
    assert error < TOLERANCE


def tiers_of(method: str) -> list[memory.Tier]:
    """Those in which the method places anything otherwise: I2VEdit's windows are not decoded here, and a second window
    does what the first did before."""
    tiers = memory.TIERS
    if method == "i2vedit":
        return list({(tier.offload, tier.batched): tier for tier in reversed(tiers[:-1])}.values())
    return [tiers[-1]] if method == "skip-interval" else list(tiers)


@pytest.mark.parametrize(
    ("method", "tier"),
    [(method, tier) for method in METHODS for tier in tiers_of(method)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_every_tensor_is_placed_in_every_tier(method: str, tier: memory.Tier) -> None:
    run, load = METHODS[method]
    model = load("cuda:0")
    with pretend_gpu.present() as pretended:
        model.tier = tier
        result = run(model)
        assert pretended.operations > 1000
        assert_is_the_cpus(result, method)


SEPARATE = ("videoshop", "i2vedit", "vp4")


def test_apples_gpu_is_chosen_with_its_memory() -> None:
    """What cannot be pretended is the work: a PyTorch without Metal refuses the device's name."""
    model = svd.VideoModel(TINY_SVD, torch.device("mps:0"), torch.float32)
    with pretend_gpu.present("mps"):
        assert accelerators.best().kind == "mps"
        assert accelerators.chosen("auto").type == "mps"
        assert model.free() == 24 * pretend_gpu.GB
        assert memory.owner(model.device) == "The GPU's"


def test_amds_gpu_goes_by_cudas_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.2")
    with pretend_gpu.present():
        row = accelerators.best()
    assert (row.kind, row.type, row.fused) == ("rocm", "cuda", False)


@pytest.mark.parametrize(("method", "seed"), [(method, seed) for seed, method in enumerate(SEPARATE)])
def test_result_is_right_after_out_of_memory_anywhere(method: str, seed: int) -> None:
    run, load = METHODS[method]
    model = load("cuda:0")
    with pretend_gpu.present() as pretended:
        pretended.fails = pretend_gpu.random_operations(3, below=2000, seed=seed)
        result = model.persist(lambda: run(model))
        assert pretended.failed == 3
        assert len(model.notes) == 3
        assert model.tier is memory.TIERS[3]
        assert_is_the_cpus(result, method)


@pytest.mark.parametrize("method", SEPARATE)
def test_half_precision_is_near_single(method: str) -> None:
    """On the device with the least that half precision promises: finite, and of the CPU's shape and size."""
    run, _ = METHODS[method]
    dtype = torch.bfloat16 if method == "i2vedit" else torch.float16
    if method == "vp4":
        model = inpaint.InpaintModel(TINY_INPAINT, TINY_INPAINT / "clip", torch.device("cuda:0"), dtype)
    else:
        model = svd.VideoModel(TINY_SVD, torch.device("cuda:0"), dtype)
    with pretend_gpu.present():
        result, reference = run(model).cpu().float(), expected(method)
    assert torch.isfinite(result).all()
    assert float((result - reference).norm() / reference.norm()) < (0.15 if method == "i2vedit" else 0.02)


def on_the_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose result is left on the CPU by mistake."""

    def misplaced(*given: Any, **named: Any) -> Any:
        result = function(*given, **named)
        if dataclasses.is_dataclass(result):
            return dataclasses.replace(result, latent=result.latent.cpu())  # type: ignore[type-var]
        return result.cpu() if isinstance(result, torch.Tensor) else [each.cpu() for each in result]

    return misplaced


PLANTED = [
    ("videoshop", schedule, "noise_like"),
    ("videoshop", sampling, "euler"),
    ("videoshop", svd.VideoModel, "condition"),
    ("i2vedit", svd.VideoModel, "condition"),
    ("i2vedit", svd.VideoModel, "raw"),
    ("vp4", vp4.VisualPrompt, "cell_noise"),
    ("vp4", inpaint.InpaintModel, "noise"),
]


@pytest.mark.parametrize(("method", "owner", "name"), PLANTED, ids=[f"{m} {n}" for m, _, n in PLANTED])
def test_a_misplaced_tensor_is_refused(method: str, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, load = METHODS[method]
    model = load("cuda:0")
    monkeypatch.setattr(owner, name, on_the_cpu(getattr(owner, name)))
    with pretend_gpu.present(), pytest.raises(pretend_gpu.Misplaced):
        run(model)


def test_trainings_tensors_are_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients cannot be had here, so they are given: loss, optimiser, checkpoint and resuming are the true ones."""
    frames, _ = clip()
    model = svd.VideoModel(TINY_SVD, torch.device("cuda:0"), torch.bfloat16)
    settings = training.TrainingSettings(steps=2, checkpoint=1, early=True)
    with pretend_gpu.present():
        z = model.encode(frames)
        condition, sigmas = model.condition(frames[:1], noise_aug=0.02, seed=1), model.config.sigmas(2)
        source = i2vedit.SourceWindow(i2vedit.invert(model, z, condition, sigmas), condition)
        with lora.Adapters(model.unet, rank=2) as adapters:
            adapters.add("window", seed=1)
            weights = adapters.train("window")

            def given(loss: Any) -> None:
                assert loss.device.type == "cuda"
                for weight in weights:
                    weight.grad = torch.ones_like(weight)

            monkeypatch.setattr(torch.Tensor, "backward", given)
            saved: list[Any] = []
            for resumed in (None, 0):
                progress = i2vedit.train(
                    model, adapters, z, condition, settings, first=source, sigmas=sigmas, save=saved.append,
                    resumed=None if resumed is None else saved[resumed],
                )  # fmt: skip
                assert progress.step == 2
            assert {weight.device.type for weight in weights} == {"cuda"}
    first, last = saved[1], saved[2]
    assert all((first[key] == last[key]).all() for key in first)


def test_models_of_the_parity_vectors_are_accepted() -> None:
    """The same folders as users' are: what is placed here is what a job places."""
    assert models.locate(str(TINY_SVD), "svd").path == TINY_SVD
