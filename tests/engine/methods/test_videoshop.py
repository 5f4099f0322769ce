"""Videoshop on small shots and a tiny model with random weights, its stages run one by one as a runner does."""

from __future__ import annotations

import itertools
import operator
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import memory, sampling, schedule, svd
from paintover_engine.diffusion import videoshop as algorithm
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.methods import draft, model_stage, pictures, videoshop
from paintover_engine.methods.parameters import DraftParameters, VideoshopParameters
from paintover_engine.methods.stage import KeyframeRef, ResultFrame, Stage
from safetensors.torch import load_file, save_file

from tests.engine.diffusion.faults import failing
from tests.engine.methods.shots import Frame, MemoryShot, composed, refs

WIDTH, HEIGHT, SHIFT = 72, 40, 2


def slides(count: int, painted: bool = False) -> list[Frame]:
    noise = np.random.default_rng(7).random((HEIGHT, WIDTH + SHIFT * 30, 3), np.float32)
    wide = np.clip((cv2.GaussianBlur(noise, (0, 0), 2.0) - 0.5) * 700 + 128, 0, 255).astype(np.uint8)
    if painted:
        cv2.circle(wide, (WIDTH // 2 + 8, HEIGHT // 2), 9, (220, 40, 40), -1)
    return [np.ascontiguousarray(wide[:, SHIFT * n : SHIFT * n + WIDTH]) for n in range(count)]


@dataclass(eq=False)
class Shot(MemoryShot):
    """A textured slide with a disc painted on it."""

    model: Path
    count: int
    keys: tuple[int, ...]

    def __post_init__(self) -> None:
        self.name = f"plate{self.count}"
        self.plates, self.painted = slides(self.count), slides(self.count, painted=True)

    def plan(self, **parameters: Any) -> list[Stage]:
        return videoshop.plan(self.info, refs(self.keys), VideoshopParameters(steps=4, **parameters), str(self.model))

    def run(self, **parameters: Any) -> dict[int, ResultFrame]:
        return self.run_stages(self.plan(**parameters))


@pytest.mark.parametrize("count", [2, 5, 6, 7, 13])
@pytest.mark.parametrize("place", ["first", "inside", "last", "two"])
def test_plan_orders_inputs_and_publishes_once(tiny_svd: Path, count: int, place: str) -> None:
    keys = {"first": (0,), "inside": (count // 2,), "last": (count - 1,), "two": (0, count - 1)}[place]
    stages = Shot(tiny_svd, count, keys).plan()
    known: set[str] = set()
    for stage in stages:
        assert all(needed.key in known for needed in stage.inputs)
        assert stage.key not in known
        known.add(stage.key)
    published = [n for s in stages if s.publishes for n in range(s.frames[0], s.frames[1] + 1)]
    assert sorted(published) == list(range(count))


def test_prepared_stages_serve_any_keyframe(tiny_svd: Path) -> None:
    prepared = Shot(tiny_svd, 13, ()).plan()
    assert not any(stage.needs_keyframe or stage.publishes for stage in prepared)
    known = {stage.key for stage in prepared}
    for key, own in ((0, 0), (5, 0), (12, 0), (10, 1), (8, 2)):
        inverted = [stage for stage in Shot(tiny_svd, 13, (key,)).plan() if stage.name == "invert"]
        assert sum(stage.key not in known for stage in inverted) == own


def test_second_edit_starts_at_denoising(tiny_svd: Path) -> None:
    shot = Shot(tiny_svd, 5, ())
    shot.run()
    again = Shot(tiny_svd, 5, (4,), kept=dict(shot.kept))
    frames = again.run()
    ran = Counter(stage.name for stage in again.ran)
    assert sorted(frames) == list(range(5))
    assert ran["denoise"] == 1
    assert not ran.keys() & {"encode", "reconstruct", "invert", "flow"}


def test_model_exchanged_during_a_job_stops_it(tiny_svd: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_svd, tmp_path / "model"))
    shot = Shot(folder, 5, (0,))
    stages = shot.plan()
    shot.run_stages(stages, lambda stage: stage.name == "encode")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor * 0.5 for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    with pytest.raises(PaintoverError, match="was changed while the job ran; retry it"):
        shot.run_stages(stages, lambda stage: stage.name == "reconstruct")
    assert shot.run()  # planned anew, with the weights that are there now


def test_outside_the_matte_the_plate_is_untouched(tiny_svd: Path) -> None:
    shot = Shot(tiny_svd, 7, (3,))
    frames = shot.run()
    assert np.array_equal(composed(shot.plates[3], frames[3]), shot.painted[3])
    changed = 0
    for number in (0, 2, 4, 6):
        edit = (shot.painted[number] != shot.plates[number]).any(-1)
        far = cv2.dilate(edit.astype(np.uint8), np.ones((21, 21), np.uint8)) == 0
        result = composed(shot.plates[number], frames[number])
        assert np.array_equal(result[far], shot.plates[number][far])
        changed += int((result != shot.plates[number]).any(-1).sum())
    assert changed > 100


def test_flow_and_matte_are_shared_with_the_draft(tiny_svd: Path) -> None:
    shot = Shot(tiny_svd, 7, (0,))
    ours = {stage.key for stage in shot.plan()}
    theirs = draft.plan(shot.info, [KeyframeRef(0, "key0")], DraftParameters())
    assert {stage.key for stage in theirs if stage.name in ("flow", "matte", "learn", "propagate")} <= ours


def test_model_settings_apply_where_the_user_sets_none(tiny_svd: Path) -> None:
    def denoising(**parameters: Any) -> Stage:
        return next(stage for stage in Shot(tiny_svd, 5, (0,)).plan(**parameters) if stage.name == "denoise")

    assert denoising().parameters.inversion.strength == 0.3
    assert denoising().parameters.guidance == 2.0
    assert denoising(strength=0.8, guidance=5).parameters.inversion.strength == 0.8
    assert denoising().parameters.inversion.normalisation == "frame"
    assert denoising().parameters.rescaling == "match"  # the paper's: the model says nothing
    assert denoising(normalisation="none").parameters.inversion.normalisation == "none"


@pytest.mark.parametrize(
    "parameters",
    [
        {"inversion": "naive"},
        {"inversion": "bdia", "strength": 0.6},
        {"inversion": "bdia", "strength": 0.01},
        {"inversion": "noise"},
        {"inversion": "none"},
        {"refinements": 1},
        {"normalisation": "frame", "rescaling": "paper"},
        {"normalisation": "none", "rescaling": "none", "condition": "plain"},
        {"condition": "consistent", "rescaling": "undo"},
        {"matte": "whole", "guidance": 1},
        {"matte": "difference", "fit": "crop"},
        {"long_side": 24},
    ],
    ids=lambda parameters: " ".join(f"{name}={value}" for name, value in parameters.items()),
)
def test_every_switch_gives_finite_frames(tiny_svd: Path, parameters: dict[str, Any]) -> None:
    frames = Shot(tiny_svd, 3, (0,)).run(**parameters)
    assert sorted(frames) == [0, 1, 2]
    assert all(np.isfinite(frame.painted).all() for frame in frames.values())


def test_nan_latents_stop_the_window_and_name_the_step(tiny_svd: Path) -> None:
    with pytest.raises(PaintoverError, match="inverting frames 0 to .* call 1 of the network.*threshold"):
        Shot(tiny_svd, 5, (0,)).run(threshold=-1, strength=1)


@pytest.fixture
def model(tiny_svd: Path, monkeypatch: pytest.MonkeyPatch) -> svd.VideoModel:
    """The jobs' model, its tier put back afterwards."""
    model = svd.load(tiny_svd)
    monkeypatch.setattr(model, "tier", memory.TIERS[0])
    monkeypatch.setattr(model, "notes", [])
    return model


@pytest.mark.parametrize(("part", "call"), [("unet", 3), ("vae.encoder", 2), ("vae.decoder", 1), ("vae.decoder", 2)])
def test_out_of_memory_is_noted_for_this_job_only(tiny_svd: Path, model: svd.VideoModel, part: str, call: int) -> None:
    """The decoder's second call is the last of the model."""
    shot = Shot(tiny_svd, 3, (0,))
    with failing(operator.attrgetter(part)(model), torch.OutOfMemoryError("CUDA out of memory."), {call}):
        frames = shot.run(strength=1)
    assert sorted(frames) == [0, 1, 2]
    assert videoshop.notes(shot, shot.ran) == ["The computer's memory ran out; going on in the tier for 24 GB."]
    again = Shot(tiny_svd, 3, (0,))
    again.run(strength=1)
    assert videoshop.notes(again, again.ran) == []


def test_stage_is_repeated_after_out_of_memory(
    tiny_svd: Path, model: svd.VideoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, short = Shot(tiny_svd, 3, (0,)).run(strength=1), Shot(tiny_svd, 3, (0,))
    euler, calls = sampling.euler, []

    def once(*given: Any) -> torch.Tensor:
        calls.append(given)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return euler(*given)

    monkeypatch.setattr(sampling, "euler", once)
    frames = short.run(strength=1)
    assert len(calls) == 2
    assert model.tier is memory.TIERS[1]
    assert videoshop.notes(short, short.ran) == ["The computer's memory ran out; going on in the tier for 24 GB."]
    assert all(np.array_equal(frames[n].painted, expected[n].painted) for n in frames)


@pytest.fixture
def unusable_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine gives the worker of a card that its driver lists."""
    if torch.cuda.is_available():
        pytest.skip("PyTorch can use a GPU here")
    monkeypatch.setenv("PAINTOVER_ACCELERATOR", "cuda")
    monkeypatch.setenv("PAINTOVER_ACCELERATOR_NAME", "NVIDIA RTX 3090, driver 470.82.01")


def test_large_model_is_no_days_work_for_the_cpu(
    tiny_svd: Path, unusable_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_stage, "SMALL", 1000)
    with pytest.raises(PaintoverError) as raised:
        Shot(tiny_svd, 2, (0,)).run(strength=0.5)
    assert raised.value.code is Code.FAILED_PRECONDITION
    message = str(raised.value)
    assert message.startswith("NVIDIA RTX 3090, driver 470.82.01 is there, but cannot be used (PyTorch ")
    assert "install a PyTorch" in message
    assert "CUDA_VISIBLE_DEVICES=" in message


def test_small_model_on_the_cpu_says_so(tiny_svd: Path, unusable_gpu: None) -> None:
    shot = Shot(tiny_svd, 2, (0,))
    assert sorted(shot.run(strength=0.5)) == [0, 1]
    (note,) = videoshop.notes(shot, shot.ran)
    assert note.startswith("NVIDIA RTX 3090, driver 470.82.01 cannot be used; computed on the CPU")


def test_gpu_failure_between_calls_is_an_error(
    tiny_svd: Path, model: svd.VideoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels run later than they are called, so a failure comes out anywhere."""
    monkeypatch.setattr(memory, "_broken", "")

    def fail(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(sampling, "euler", fail)
    with pytest.raises(PaintoverError, match="an illegal memory access.*retry: finished stages are kept") as raised:
        Shot(tiny_svd, 3, (0,)).run(strength=1)
    assert raised.value.code is Code.UNAVAILABLE
    with pytest.raises(SystemExit, match="an illegal memory access"):
        Shot(tiny_svd, 3, (0,)).run(strength=1)


def published_code(shot: Shot, view: pictures.ModelView) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The published code's inverted latents and edited latents, (F, 4, h, w), and its first noise level.

    Written anew from the description of the code, on the network itself: no function of ours but the model's."""
    model, scale = svd.load(shot.model), 0.18215

    def seen(pictures: list[Frame]) -> torch.Tensor:
        framed = [view.framing(shot.info).to_model(p.astype(np.float32) / 255) for p in pictures]
        return torch.from_numpy(np.stack(framed)).permute(0, 3, 1, 2) * 2 - 1

    def draw(purpose: str, shape: tuple[int, ...]) -> torch.Tensor:
        seed = schedule.derived_seed(42, purpose, 0, 5)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def mode(pictures: torch.Tensor) -> torch.Tensor:
        return model.vae.encode(pictures).latent_dist.mode()

    @torch.no_grad()
    def network(x: torch.Tensor, latent: torch.Tensor, token: torch.Tensor, sigma: float) -> torch.Tensor:
        scaled = torch.cat([x / (sigma**2 + 1) ** 0.5, latent[:, None].expand(-1, 6, -1, -1, -1)], 2)
        ids = torch.tensor([[6.0, 127.0, 0.2]])
        return model.unet(scaled, torch.tensor(0.25 * np.log(sigma)), token, ids).sample

    with torch.no_grad():
        source, edited = seen(shot.plates), seen([shot.painted[0]])
        z = mode(source)[None] * scale
        flat = z.flatten(2)
        x0 = (z - flat.mean(2)[..., None, None, None]) / (flat.std(2)[..., None, None, None] + 1e-6)
        first = mode(source[:1] + 0.2 * draw("condition", source[:1].shape))
        first = (first - first.mean()) / (first.std() + 1e-6) / scale
        token = model.condition(source[:1], noise_aug=0.2).token
        levels = model.config.sigmas(4).tolist()[4 - int(4 * 0.8) :]
        x, noise = x0, draw("inversion", x0.shape)
        for i in range(len(levels) - 2, -1, -1):
            low, high = levels[i + 1], levels[i]
            point = x0 + (x - x0) * high / low if low > 1 else x0 + noise * high * x0.std()
            output = network(point, first, token, high)
            c_skip, c_out = 1 / (high**2 + 1), -high / (high**2 + 1) ** 0.5
            x = (high * x + (low - high) * c_out * output) / ((low - high) * (1 - c_skip) + high)
        inverted = x

        edited_condition = model.condition(edited, noise_aug=0.2)
        latent = mode(edited + 0.2 * draw("condition", edited.shape))
        for high, low in itertools.pairwise(levels):
            cond = network(x, latent, edited_condition.token, high)
            uncond = network(x, torch.zeros_like(latent), torch.zeros_like(edited_condition.token), high)
            output = uncond + 4 * (cond - uncond)
            clean = x / (high**2 + 1) - output * high / (high**2 + 1) ** 0.5
            x = x + (low - high) * (x - clean) / high
        wanted = (mode(edited) * scale)[0].flatten(1)
        start = x[0, 0].flatten(1)
        spread = lambda values: values[:, None, None]  # noqa: E731
        x = (x - spread(start.mean(1))) / spread(start.std(1)) * spread(wanted.std(1)) + spread(wanted.mean(1))
    return inverted[0], x[0], levels[0]


def test_parity_switches_equal_the_published_code(tiny_svd: Path) -> None:
    shot = Shot(tiny_svd, 6, (0,))
    shot.run(
        normalisation="frame",
        condition="code",
        rescaling="match",
        strength=0.8,
        guidance=4,
        noise_aug=0.2,
        matte="whole",
    )
    ran = {stage.name: stage for stage in shot.ran}
    inverted, edited, level = published_code(shot, ran["denoise"].parameters.view)
    assert torch.allclose(torch.from_numpy(shot.kept[ran["invert"].key]["states"][0]), inverted, atol=1e-3 * level)
    ours = torch.from_numpy(shot.kept[ran["denoise"].key]["latents"])
    assert ours.std() > 0.03
    assert torch.allclose(ours, edited, atol=3e-4)


def test_stages_equal_the_algorithm_bit_for_bit(tiny_svd: Path) -> None:
    shot, model = Shot(tiny_svd, 6, (0,)), svd.load(tiny_svd)
    shot.run(strength=0.8, guidance=3, threshold=2, refinements=1, noise_aug=0.2, normalisation="frame", seed=5)
    ran = {stage.name: stage for stage in shot.ran}
    view = ran["denoise"].parameters.view
    encoded = [torch.from_numpy(shot.kept[stage.key]["latents"]) for stage in ran["invert"].inputs]
    settings = algorithm.VideoshopSettings(
        steps=4, strength=0.8, guidance=3, threshold=2, refinements=1, noise_aug=0.2, normalisation="frame", seed=5
    )
    z = torch.cat(encoded)[None]
    first, edited = pictures.plate(shot, view, 0), pictures.keyframe(shot, view, "key0")
    latents = algorithm.edit(model, z, first, edited, settings, span=(0, 5))
    assert torch.equal(latents[0], torch.from_numpy(shot.kept[ran["denoise"].key]["latents"]))
    assert not torch.allclose(latents, z, atol=0.1)


def test_draws_are_independent_of_each_other(tiny_svd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pictures, of latents, and of two windows: no two are alike, but a window's first frame has the same noise
    while inverting and while painting."""
    randn, drawn = torch.randn, []

    def recording(*given: Any, **named: Any) -> torch.Tensor:
        noise = randn(*given, **named)
        if noise.device.type != "meta":  # not to count memory
            drawn.append(noise.flatten()[:200])
        return noise

    monkeypatch.setattr(torch, "randn", recording)
    Shot(tiny_svd, 9, (0,)).run(strength=0.8, noise_aug=0.2, matte="whole")
    distinct = {tuple(noise.tolist()): noise for noise in drawn}
    assert len(distinct) == 2 * 2  # two windows, each with a first frame's and an inversion's
    for one, other in itertools.combinations(distinct.values(), 2):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.35


def test_results_stream_window_by_window(tiny_svd: Path) -> None:
    functions = [stage.name for stage in Shot(tiny_svd, 16, (0,)).plan()]
    assert functions.count("denoise") == functions.count("result") == 3
    for n in range(1, 3):
        nth = [index for index, name in enumerate(functions) if name == "denoise"][n]
        assert functions[:nth].count("result") == n


@dataclass
class Handed:
    """The frame that the second of two windows starts on, (1, 4, h, w) scaled latents each."""

    condition: torch.Tensor  # in the condition, less the noise on the plate's frame
    painted: torch.Tensor
    plate: torch.Tensor


def handed(model: Path, monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> Handed:
    latents: list[torch.Tensor] = []
    original = svd.VideoModel.condition

    def spied(model: svd.VideoModel, picture: torch.Tensor, **given: Any) -> svd.Condition:
        if given.get("latent") is not None:
            latents.append(given["latent"])
        return original(model, picture, **given)

    monkeypatch.setattr(svd.VideoModel, "condition", spied)
    shot = Shot(model, 11, (0,))
    shot.run(**parameters)
    first, second = (stage for stage in shot.ran if stage.name == "denoise")
    scale = svd.load(model).config.scale
    painted = torch.from_numpy(shot.kept[first.key]["latents"][-1:])
    plate = torch.from_numpy(shot.kept[second.inputs[1].key]["latents"][:1])
    noisy = torch.from_numpy(shot.kept[second.inputs[0].key]["noisy_anchor"])
    assert second.parameters.window[0] == first.parameters.window[-1] == second.inputs[1].frames[0]
    assert len(latents) == 1
    return Handed((latents[0] - noisy) * scale + plate, painted, plate)


def test_next_window_starts_on_handed_over_latents(tiny_svd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for parameters in ({"handover": "latents"}, {"matte": "whole"}):
        found = handed(tiny_svd, monkeypatch, **parameters)
        np.testing.assert_allclose(found.condition, found.painted, atol=1e-5)


def test_anchored_handover_keeps_the_plate_around(tiny_svd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = handed(tiny_svd, monkeypatch)
    from_plate, from_paint = ((found.condition - other).abs().amax(1) < 1e-5 for other in (found.plate, found.painted))
    assert from_paint.any() and from_plate.float().mean() > 0.5
    assert not (from_plate & from_paint).any()
    middle, corner = (from_paint.shape[1] // 2, from_paint.shape[2] // 2), (0, 0)
    assert not from_plate[0][middle] and from_plate[0][corner]  # a disc is painted in the middle


def test_cancel_takes_effect_between_network_calls(tiny_svd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class CancelledError(Exception):
        pass

    shot, calls = Shot(tiny_svd, 3, (0,)), []
    model = svd.load(tiny_svd)
    forward = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda *given, **named: calls.append(1) or forward(*given, **named))

    def check() -> None:
        if len(calls) == 2:
            raise CancelledError

    monkeypatch.setattr(shot, "check", check)
    with pytest.raises(CancelledError):
        shot.run(strength=1)
    assert len(calls) == 2
