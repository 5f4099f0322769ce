"""FlowEdit on small shots and tiny Wan models with random weights, its stages run one by one as a runner does."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import flow, flowedit, prompt, wan
from paintover_engine.errors import PaintoverError
from paintover_engine.methods import flow_stages, pictures
from paintover_engine.methods import flowedit as method
from paintover_engine.methods.flow_parameters import FlowEditParameters
from paintover_engine.methods.stage import ResultFrame, Stage

from tests.engine import wan_folders
from tests.engine.methods.shots import MemoryShot, composed, refs
from tests.engine.methods.test_videoshop import slides

Folders = Callable[[str], Path]


@dataclass(eq=False)
class Shot(MemoryShot):
    """A textured slide with a disc painted on it. edited: whether there is a disc at all."""

    model: Path
    count: int
    keys: tuple[int, ...]
    edited: bool = True

    def __post_init__(self) -> None:
        self.name = f"plate{self.count}"
        self.plates, self.painted = slides(self.count), slides(self.count, painted=self.edited)

    def plan(self, **parameters: Any) -> list[Stage]:
        given = FlowEditParameters(**{"steps": 4, **parameters})
        return method.plan(self.info, refs(self.keys), given, str(self.model))

    def run(self, **parameters: Any) -> dict[int, ResultFrame]:
        return self.run_stages(self.plan(**parameters))

    def outputs(self, name: str, field: str = "latents") -> list[np.ndarray]:
        return [self.kept[stage.key][field] for stage in self.ran if stage.name == name]


# The algorithm.


def random_network(seed: int, channels: int) -> Callable[[torch.Tensor], flow.Velocity]:
    """A velocity of a small random network on a condition of the latents' first frame."""
    generator = torch.Generator().manual_seed(seed)
    mix, look = (torch.randn(channels, channels, generator=generator) / channels**0.5 for _ in range(2))

    def on(condition: torch.Tensor) -> flow.Velocity:
        def velocity(x: torch.Tensor, s: flow.Sigma) -> torch.Tensor:
            mixed = torch.einsum("btchw,cd->btdhw", x, mix) + torch.einsum("btchw,cd->btdhw", condition, look)
            return torch.tanh(mixed * (1 + float(s)))

        return velocity

    return on


@pytest.mark.parametrize("seed", range(8))
def test_identity_edit_returns_the_source_exactly(seed: int) -> None:
    """Whatever the network, the schedule, the size, the noise and the matte."""
    generator = torch.Generator().manual_seed(seed)
    frames, channels, high, wide = (int(torch.randint(1, 9, (), generator=generator)) for _ in range(4))
    x0 = 5 * torch.randn(1, frames, channels, high, wide, generator=generator)
    on, condition = random_network(seed, channels), torch.randn(1, 1, channels, high, wide, generator=generator)
    levels = flowedit.start_levels(flow.levels(3 + seed, 1.0 + seed), 2 + seed)
    found = flowedit.edit(
        on(condition),
        on(condition),
        x0,
        levels,
        torch.Generator().manual_seed(seed),
        matte=torch.rand(1, frames, 1, high, wide, generator=generator),
        known=flowedit.Known(first=x0[:, :1], start=x0 if seed % 2 else None),
        average=1 + seed % 3,
    )
    assert torch.equal(found, x0)


def test_edit_moves_only_inside_the_matte() -> None:
    on, x0 = random_network(1, 4), torch.randn(1, 3, 4, 6, 8)
    matte = torch.zeros(1, 3, 1, 6, 8)
    matte[..., 2:4, 3:6] = 1
    conditions = torch.randn(2, 1, 4, 6, 8)[:, None]
    found = flowedit.edit(
        on(conditions[0]), on(conditions[1]), x0, flow.levels(6, 3.0), torch.Generator().manual_seed(1), matte=matte
    )
    assert torch.equal(found[(matte == 0).expand_as(x0)], x0[(matte == 0).expand_as(x0)])
    assert (found - x0).abs().mean() > 0.01


def shifted_gaussian(mean: torch.Tensor) -> flow.Velocity:
    """The exact velocity of clean latents that are normal around a mean with deviation 0.5."""

    def velocity(x: torch.Tensor, s: flow.Sigma) -> torch.Tensor:
        s = torch.as_tensor(s)
        variance = ((1 - s) * 0.5) ** 2 + s**2
        away = x - (1 - s) * mean
        return s / variance * away - (mean + (1 - s) * 0.25 / variance * away)

    return velocity


@pytest.mark.parametrize("start", [False, True])
def test_edit_arrives_where_the_edited_clips_are(start: bool) -> None:
    """Two exact distributions: the edit is their shift, for any clip. From an estimate, in fewer steps."""
    generator = torch.Generator().manual_seed(2)
    shift = torch.randn(1, 4, 3, 5, 5, generator=generator)
    x0 = 0.5 * torch.randn(1, 4, 3, 5, 5, generator=generator)
    everywhere, levels = torch.ones(1, 4, 1, 5, 5), flow.levels(20, 3.0)
    known = flowedit.Known(first=(x0 + shift)[:, :1], start=x0 + 0.8 * shift if start else None)
    levels = flowedit.start_levels(levels, 6) if start else levels
    found = flowedit.edit(
        shifted_gaussian(torch.zeros_like(x0)),
        shifted_gaussian(shift),
        x0,
        levels,
        torch.Generator().manual_seed(3),
        matte=everywhere,
        known=known,
    )
    assert torch.equal(found[:, :1], x0[:, :1] + (known.first - x0[:, :1]))  # type: ignore[operator]
    assert float((found - x0 - shift).std()) < 0.25 * float(shift.std())


def test_noise_is_drawn_anew_in_every_step() -> None:
    seen: list[torch.Tensor] = []

    def source(x: torch.Tensor, s: flow.Sigma) -> torch.Tensor:
        seen.append(x / s)
        return torch.zeros_like(x)

    x0 = torch.zeros(1, 2, 3, 4, 4)
    flowedit.edit(
        source,
        lambda x, s: torch.zeros_like(x),
        x0,
        flow.levels(4, 1.0),
        torch.Generator(),
        matte=torch.ones(1),
        average=2,
    )
    assert len(seen) == 8
    assert not any(torch.allclose(a, b, atol=0.1) for a, b in itertools.combinations(seen, 2))


def test_latent_matte_covers_its_frames_and_fades() -> None:
    matte = torch.zeros(9, 1, 80, 160)
    matte[3, :, 32, 64] = 1  # frame 3 is seen by latent 1 alone
    found = flowedit.latent_matte(matte, 8)[0, :, 0]
    assert found.shape == (3, 10, 20)
    assert not found[0].any() and not found[2].any()
    row = found[1, 4]
    assert (row[6:11] == 1).all()
    assert 0 < row[4] < row[5] < 1 and 0 < row[12] < row[11] < 1
    assert not row[:4].any() and not row[13:].any()


# The stages.


@pytest.mark.parametrize("key", [0, 4, 10])
@pytest.mark.parametrize("layout", wan_folders.IMAGE_TO_VIDEO)
def test_unpainted_keyframe_returns_the_plates_latents(tiny_wan: Folders, layout: str, key: int) -> None:
    """Over windows that hand over, both ways, for every layout: bit for bit; but for TI2V, whose keyframe is encoded
    alone, by other kernels on some processors."""
    rounding = 1e-5 if layout == "ti2v" else 0
    shot = Shot(tiny_wan(layout), 11, (key,), edited=False)
    ours = ("prompt", "encode", "edit", "decode")  # there is nothing to track
    shot.run_stages(shot.plan(matte="whole", n_max=3), lambda stage: stage.name in ours)
    edits = [stage for stage in shot.ran if stage.name == "edit"]
    assert len(edits) == {0: 2, 4: 2, 10: 2}[key]
    for stage in edits:
        (source,) = stage.inputs_of(flow_stages.encode)
        assert np.abs(shot.kept[stage.key]["latents"] - shot.kept[source.key]["latents"]).max() <= rounding
    assert all(np.abs(change).max() <= rounding for change in shot.outputs("decode", "change"))


@pytest.mark.parametrize("count", [2, 5, 9, 10, 17])
@pytest.mark.parametrize("place", ["first", "inside", "last", "two"])
def test_plan_orders_inputs_and_publishes_once(tiny_wan: Folders, count: int, place: str) -> None:
    keys = {"first": (0,), "inside": (count // 2,), "last": (count - 1,), "two": (0, count - 1)}[place]
    stages = Shot(tiny_wan("i2v"), count, keys).plan(start="draft")
    known: set[str] = set()
    for stage in stages:
        assert all(needed.key in known for needed in stage.inputs)
        assert stage.key not in known
        known.add(stage.key)
    published = [n for s in stages if s.publishes for n in range(s.frames[0], s.frames[1] + 1)]
    assert sorted(published) == list(range(count))
    assert all(len(s.parameters.window) % 4 == 1 for s in stages if s.name == "encode")


def test_preparing_is_encoding_alone(tiny_wan: Folders) -> None:
    shot = Shot(tiny_wan("i2v"), 11, ())
    shot.run()
    prepared = {stage.name for stage in shot.ran if "tracking" not in stage.function.path}
    assert prepared == {"prompt", "encode"}
    again = Shot(tiny_wan("i2v"), 11, (10,), kept=dict(shot.kept))
    again.run()
    assert not {stage.name for stage in again.ran} & {"prompt", "encode", "flow", "long_flow"}


def test_text_encoder_is_asked_once_for_all_shots(tiny_wan: Folders) -> None:
    first, second = (
        {stage.key for stage in Shot(tiny_wan("a14b"), count, (0,)).plan() if stage.name == "prompt"}
        for count in (5, 9)
    )
    assert first == second and len(first) == 1


def test_outside_the_matte_the_plate_is_untouched(tiny_wan: Folders) -> None:
    shot = Shot(tiny_wan("i2v"), 11, (5,))
    frames = shot.run()
    assert sorted(frames) == list(range(11))
    assert np.array_equal(composed(shot.plates[5], frames[5]), shot.painted[5])
    for number in (0, 4, 6, 10):
        edit = (shot.painted[number] != shot.plates[number]).any(-1)
        far = cv2.dilate(edit.astype(np.uint8), np.ones((21, 21), np.uint8)) == 0
        result = composed(shot.plates[number], frames[number])
        assert np.array_equal(result[far], shot.plates[number][far])
    assert all(change.any() for change in shot.outputs("decode", "change"))


@pytest.mark.parametrize(
    "parameters",
    [
        {"start": "draft", "n_max": 2},
        {"n_avg": 2, "matte": "difference"},
        {"guidance": 3, "prompt": "a red disc"},
        {"fit": "crop", "long_side": 64, "softness": 2},
    ],
    ids=lambda parameters: " ".join(f"{name}={value}" for name, value in parameters.items()),
)
@pytest.mark.parametrize("layout", wan_folders.IMAGE_TO_VIDEO)
def test_every_switch_gives_finite_frames(tiny_wan: Folders, layout: str, parameters: dict[str, Any]) -> None:
    frames = Shot(tiny_wan(layout), 3, (0,)).run(**parameters)
    assert sorted(frames) == [0, 1, 2]
    assert all(np.isfinite(frame.painted).all() for frame in frames.values())


def test_stages_equal_the_algorithm_bit_for_bit(tiny_wan: Folders) -> None:
    shot = Shot(tiny_wan("a14b"), 9, (8,))
    shot.run(n_max=3, n_avg=2, matte="whole", seed=5)
    (stage,) = (stage for stage in shot.ran if stage.name == "edit")
    view, model = stage.parameters.view, wan.load(shot.model, "wan")
    clip = torch.cat([pictures.plate(shot, view, number) for number in range(8, -1, -1)])
    x0, painted = model.encode(clip), flow_stages.first_picture(shot, stage)
    assert torch.allclose(painted, pictures.keyframe(shot, view, "key8"), atol=1e-4)
    text = prompt.padded(torch.zeros(1, wan_folders.TEXT_WIDTH))
    source, edited = (model.velocity(model.condition(picture, 9), text) for picture in (clip[:1], painted))
    latents = flowedit.edit(
        source,
        edited,
        x0,
        model.levels(4)[1:],
        torch.Generator().manual_seed(5),
        matte=torch.ones(1, 3, 1, *x0.shape[3:]),
        known=flowedit.Known(first=model.encode(painted)),
        average=2,
    )
    assert torch.equal(latents[0], torch.from_numpy(shot.kept[stage.key]["latents"]))
    assert (latents - x0).abs().mean() > 1e-3


def test_next_window_starts_on_the_plate_and_the_edit(tiny_wan: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []
    original = wan.WanModel.condition

    def spied(model: wan.WanModel, picture: torch.Tensor, *others: Any) -> wan.Conditioning:
        shown.append(picture)
        return original(model, picture, *others)

    monkeypatch.setattr(wan.WanModel, "condition", spied)
    shot = Shot(tiny_wan("i2v"), 16, (0,))
    shot.run(long_side=256)
    _, painted, plate, handed = shown[:4]
    keyframe = Counter(stage.name for stage in shot.ran)
    assert keyframe["edit"] == 2
    same = (handed - plate).abs().amax(1)[0] < 1e-6
    assert same.float().mean() > 0.2  # around the edit
    assert not same[same.shape[0] // 2, same.shape[1] // 2]
    assert (painted - shown[0]).abs().max() > 0.1


def conditions(monkeypatch: pytest.MonkeyPatch) -> list[dict[int, torch.Tensor]]:
    """The pictures that each condition was of, by their place in the window."""
    shown: list[dict[int, torch.Tensor]] = []
    original = wan.WanModel.condition

    def spied(model: wan.WanModel, picture: torch.Tensor, frames: int, later: Any) -> wan.Conditioning:
        shown.append({0: picture, **later})
        return original(model, picture, frames, later)

    monkeypatch.setattr(wan.WanModel, "condition", spied)
    return shown


def test_window_between_keyframes_is_given_both(tiny_wan: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = conditions(monkeypatch)
    shot = Shot(tiny_wan("flf2v"), 9, (1, 7))
    frames = shot.run(start="draft", n_max=1)
    assert sorted(frames) == list(range(9))
    between = next(stage for stage in shot.ran if stage.name == "edit" and stage.parameters.later == (6,))
    assert between.parameters.window[0] == 1
    assert len(between.inputs_of(flow_stages.latent_matte)) == 2 == len(between.inputs_of(method.encode_draft))
    assert sum(stage.name == "edit" for stage in shot.ran) == 3  # this one, and one to each end of the shot
    view = between.parameters.view
    source, edited = next(pair for pair in itertools.pairwise(shown) if set(pair[0]) == {0, 6})
    for place, number in ((0, 1), (6, 7)):
        assert torch.equal(source[place], pictures.plate(shot, view, number))
        assert torch.allclose(edited[place], pictures.keyframe(shot, view, f"key{number}"), atol=1e-4)
        assert not torch.allclose(edited[place], source[place], atol=0.1)


def test_unpainted_keyframes_between_return_the_plate(tiny_wan: Folders) -> None:
    shot = Shot(tiny_wan("a14b"), 9, (1, 6, 8), edited=False)
    shot.run_stages(shot.plan(matte="whole"), lambda stage: stage.name in ("prompt", "encode", "edit", "decode"))
    edits = [stage for stage in shot.ran if stage.name == "edit"]
    assert sorted(stage.parameters.later for stage in edits) == [
        (2,),
        (5, 7),
        (7,),
    ]  # the last of a window that turns at frame 0
    assert all(not change.any() for change in shot.outputs("decode", "change"))


def test_keyframes_are_blended_where_the_model_takes_one(tiny_wan: Folders) -> None:
    for layout, edits in (("a14b", 1), ("i2v", 2), ("ti2v", 2)):
        plan = Shot(tiny_wan(layout), 9, (0, 8)).plan()
        assert sum(stage.name == "edit" for stage in plan) == edits
    apart = Shot(tiny_wan("a14b"), 17, (0, 16)).plan()  # more than a window
    assert sum(stage.name == "edit" for stage in apart) == 4


def test_first_frames_come_before_the_window_is_decoded(tiny_wan: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each latent of a clip is decoded once, and the frames are those of the whole window."""
    shot, whole = Shot(tiny_wan("i2v"), 9, (8,)), Shot(tiny_wan("i2v"), 9, (8,))
    whole.run()
    monkeypatch.setattr(flow_stages, "DECODED_LATENTS", 1)
    plan = shot.plan()
    published = [(stage.name, stage.frames) for stage in plan if stage.name in ("decode", "result")]
    assert published == [(name, span) for span in ((4, 7), (0, 3)) for name in ("decode", "result")]
    shot.kept = {stage.key: whole.kept[stage.key] for stage in plan if stage.key in whole.kept}
    seen: list[int] = []
    decoder = wan.load(shot.model, "wan").vae.decoder
    hook = decoder.register_forward_pre_hook(lambda *_: seen.append(1))
    frames = shot.run_stages(plan)
    hook.remove()
    assert sorted(frames) == list(range(9)) and len(seen) == 2 * 3
    later, earlier = shot.outputs("decode", "change")
    assert np.array_equal(np.concatenate([earlier, later]), *whole.outputs("decode", "change"))


def test_no_stage_grows_with_the_shot(tiny_wan: Folders) -> None:
    """Memory is flat in the shot's length: what each stage reads is of its window alone."""
    most = []
    for count in (40, 160):
        shot = Shot(tiny_wan("a14b"), 2, ())
        shot.plates = slides(2)[:1] * count
        stages = method.plan(shot.info, refs((11, 13, count - 3)), FlowEditParameters(start="draft"), str(shot.model))
        ours = [stage for stage in stages if stage.function.path.startswith("paintover_engine.methods.flow")]
        assert {stage.name for stage in ours} == {"prompt", "encode", "latent_matte", "encode_draft", "edit", "decode"}
        most.append([max(len(s.inputs) for s in ours), max(s.frames[1] - s.frames[0] for s in ours)])
    assert most[0] == most[1]


def test_model_of_another_kind_is_named(tiny_wan: Folders, tiny_svd: Path) -> None:
    with pytest.raises(PaintoverError, match="needs an image-to-video model of the Wan kind"):
        Shot(tiny_svd, 3, (0,)).plan()
    with pytest.raises(PaintoverError, match="is a VACE model of the Wan kind"):
        Shot(tiny_wan("vace"), 3, (0,)).plan()
