"""VP4 on small clips with a known truth and the small model that comes with the engine, its stages run one by one as a
runner does."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import inpaint, memory, models
from paintover_engine.diffusion import vp4 as algorithm
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods import draft, pictures, vp4
from paintover_engine.methods.parameters import DraftParameters, VP4Parameters
from paintover_engine.methods.planning import CHUNK
from paintover_engine.methods.stage import KeyframeRef, ResultFrame, Stage
from paintover_engine.methods.tensors import to_tensors
from paintover_engine.methods.tracking import flow
from paintover_evaluation import grids
from paintover_evaluation.grids import GridEdit

from tests.engine.diffusion.faults import failing
from tests.engine.methods.shots import Frame, MemoryShot, composed, refs

MODEL = "small-inpaint"
SIDE = 48
OF_THE_MODEL = ("flow", "encode", "exemplar", "sample", "consistency", "decode")

pytestmark = pytest.mark.skipif(MODEL not in models.found("inpaint"), reason="the small model is not in this checkout")


@dataclass(eq=False)
class Shot(MemoryShot):
    """A rendered clip and its true edit."""

    count: int
    keys: tuple[int, ...] = (0,)
    seed: int = 900
    kind: GridEdit = GridEdit.RECOLOUR
    side: int = SIDE
    stop_after: int = 10**9

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        self.name = f"plate {self.seed} {self.count}"
        world = grids.sample(np.random.default_rng(self.seed), 1, (self.kind,))
        frames = grids.render(
            world.take(np.zeros(self.count, np.intp)),
            np.linspace(0, 0.6, self.count, dtype=np.float32),
            self.side,
            self.side,
        )
        self.plates, self.painted = (np.rint(255 * p).astype(np.uint8) for p in (frames.source, frames.edited))

    def check(self) -> None:
        self.stop_after -= 1
        if self.stop_after < 0:
            raise PaintoverError(Code.CANCELLED, "The job was cancelled.")

    def plan(self, **parameters: Any) -> list[Stage]:
        return vp4.plan(self.info, refs(self.keys), VP4Parameters(**{"steps": 8, **parameters}), MODEL)

    def run(self, whole: bool = True, **parameters: Any) -> dict[int, ResultFrame]:
        """Runs the plan. whole: with the stages that track the matte and publish."""
        return self.run_stages(self.plan(**parameters), lambda stage: whole or stage.name in OF_THE_MODEL)

    def results(self, **parameters: Any) -> list[Frame]:
        frames = self.run(**parameters)
        return [composed(self.plates[number], frames[number]) for number in range(self.count)]

    def changes(self, **parameters: Any) -> NDArray[np.float32]:
        """The model's change in the frames after the first, (frames, 24, 24, 3)."""
        self.run(whole=False, **parameters)
        decoded = [stage for stage in self.plan(**parameters) if stage.name == "decode"]
        return np.concatenate([self.kept[stage.key]["change"] for stage in decoded]).astype(np.float32)

    def errors(self, **parameters: Any) -> NDArray[np.float32]:
        """What that differs by from the true change at the model's size."""
        true = (self.painted[1:].astype(np.float32) - self.plates[1:]) / 255
        small = np.stack([cv2.resize(change, (24, 24), interpolation=cv2.INTER_AREA) for change in true])
        return self.changes(**parameters) - small


def explained(shot: Shot, out: list[Frame]) -> float:
    """1 - |out - truth|² / |plate - truth|² where the truth is edited, the keyframes left out."""
    rest = [n for n in range(shot.count) if n not in shot.keys]
    result, plate, truth = (np.stack([p[n] for n in rest]).astype(float) for p in (out, shot.plates, shot.painted))
    edit = (plate != truth).any(-1)
    return float(1 - ((result - truth)[edit] ** 2).sum() / ((plate - truth)[edit] ** 2).sum())


@pytest.mark.parametrize("count", [2, 7, 8, 9, 17, 26])
@pytest.mark.parametrize("place", ["first", "inside", "last", "two"])
def test_plan_orders_inputs_and_publishes_once(count: int, place: str) -> None:
    keys = {"first": (0,), "inside": (count // 2,), "last": (count - 1,), "two": (0, count - 1)}[place]
    known: set[str] = set()
    stages = Shot(count, keys).plan()
    for stage in stages:
        assert all(needed.key in known for needed in stage.inputs)
        assert stage.key not in known
        known.add(stage.key)
    published = [n for s in stages if s.publishes for n in range(s.frames[0], s.frames[1] + 1)]
    assert sorted(published) == list(range(count))


def test_prepared_stages_serve_any_keyframe() -> None:
    prepared = Shot(20, ()).plan()
    assert not any(stage.needs_keyframe or stage.publishes for stage in prepared)
    known = {stage.key for stage in prepared}
    for key in (0, 9, 19):
        planned = Shot(20, (key,)).plan()
        assert {s.key for s in planned if s.name in ("encode", "flow")} <= known


def test_stretches_do_not_grow_with_the_shot() -> None:
    def widest(count: int) -> int:
        return max(
            stage.parameters.stretch[1] - stage.parameters.stretch[0]
            for stage in Shot(count).plan()
            if stage.name == "consistency"
        )

    assert widest(200) == widest(40) < 3 * CHUNK


def test_flow_and_matte_are_shared_with_the_draft() -> None:
    shot = Shot(9)
    ours = {stage.key for stage in shot.plan()}
    theirs = draft.plan(shot.info, [KeyframeRef(0, "key0")], DraftParameters())
    assert {stage.key for stage in theirs if stage.name in ("flow", "matte", "learn", "propagate")} <= ours


@pytest.mark.parametrize("kind", [GridEdit.RECOLOUR, GridEdit.TINT])
def test_shown_edit_is_applied_to_later_frames(kind: GridEdit) -> None:
    shot = Shot(4, kind=kind)
    out = shot.results()
    assert np.abs(out[0].astype(int) - shot.painted[0]).mean() < 0.5  # all but the palest of the paint
    assert explained(shot, out) > 0.4
    edit = (shot.plates != shot.painted).any(-1)
    for number in range(1, 4):
        far = cv2.dilate(edit[number].astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
        assert np.array_equal(out[number][far], shot.plates[number][far])


def test_unedited_keyframe_changes_nothing() -> None:
    shot = Shot(4)
    shot.painted = shot.plates.copy()
    assert np.abs(shot.changes()).max() < 1e-4  # rounding, for the two branches lie at different places of a batch


def test_content_consistency_preserves_the_source() -> None:
    def error(**parameters: str) -> float:
        found = []
        for seed in (901, 904, 907):
            shot = Shot(3, seed=seed)
            errors = shot.errors(consistency="none", **parameters)
            edit = (shot.plates != shot.painted).any(-1)[1:]
            far = [cv2.dilate(e.astype(np.uint8), np.ones((9, 9), np.uint8))[::2, ::2] == 0 for e in edit]
            found += [np.abs(e[f]).mean() for e, f in zip(errors, far, strict=True)]
        return float(np.mean(found))

    assert error(sampling="plain") > 1.1 * error()


def test_temporal_consistency_reduces_flicker() -> None:
    flicker: dict[str, float] = {}
    for seed, kind in ((902, GridEdit.RECOLOUR), (903, GridEdit.TINT), (904, GridEdit.MARK)):
        shot = Shot(5, seed=seed, kind=kind, side=96)
        for how in ("none", "residual"):
            shot.ran.clear()
            changed = np.abs(np.diff(shot.errors(consistency=how), axis=0)).mean()
            flicker[how] = flicker.get(how, 0.0) + float(changed)
        assert {stage.name for stage in shot.ran} == {"consistency", "decode"}
    assert flicker["residual"] < 0.9 * flicker["none"]


def test_stages_equal_the_algorithm_bit_for_bit(model: inpaint.InpaintModel) -> None:
    shot = Shot(4)
    shot.run(whole=False, steps=5, guidance=3, cloning=1.2, seed=7)
    ran = {stage.name: stage for stage in shot.ran}
    view, stretch = ran["sample"].parameters.view, ran["consistency"]
    z = torch.from_numpy(shot.kept[ran["encode"].key]["latents"][1:])
    pair = pictures.plate(shot, view, 0), pictures.keyframe(shot, view, "key0")
    motion = vp4._motion(shot, stretch.parameters, stretch.inputs_of(flow), (z.shape[3], z.shape[2]))
    settings = algorithm.VP4Settings(steps=5, strength=0.9, guidance=3, cloning=1.2, seed=7)
    edited = algorithm.edit(model, pair, z, motion, settings)
    assert torch.equal(edited, torch.from_numpy(shot.kept[stretch.key]["latents"]))
    assert not torch.allclose(edited, z, atol=0.1)


def test_network_passes_are_counted() -> None:
    def passes(**parameters: Any) -> int:
        shot = Shot(3)
        shot.run(whole=False, **parameters)
        return next(int(shot.kept[s.key]["evaluations"][0]) for s in shot.ran if s.name == "sample")

    assert passes(steps=4) == 2 * 3 * 2  # two frames, three steps that ask, two branches
    assert passes(steps=4, branches="region") == 2 * 3
    assert passes(steps=4, guidance=2) == 2 * 3 * 3


def test_frames_between_two_keyframes_use_both() -> None:
    shot = Shot(5, keys=(0, 4))
    out = shot.results(steps=4)
    counted = Counter(stage.name for stage in shot.ran)
    assert counted["sample"] == counted["exemplar"] == 2
    for key in (0, 4):
        assert np.abs(out[key].astype(int) - shot.painted[key]).mean() < 0.5
    assert explained(shot, out) > 0.4


def test_frames_depend_on_the_seed() -> None:
    one, same, other = (Shot(2).changes(steps=4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "parameters",
    [
        {"prompt": "literal"},
        {"branches": "same", "guidance": 3},
        {"branches": "region", "cloning": 1.3},
        {"consistency": "literal", "matte": "difference"},
        {"sampling": "plain", "matte": "whole"},
        {"cell": 32},
    ],
    ids=lambda parameters: " ".join(f"{name}={value}" for name, value in parameters.items()),
)
def test_every_switch_gives_finite_frames(parameters: dict[str, Any]) -> None:
    whole = "matte" in parameters
    shot = Shot(3)
    frames = shot.run(whole, steps=3, **parameters)
    assert sorted(frames) == ([0, 1, 2] if whole else [])
    assert np.isfinite(shot.changes(steps=3, **parameters)).all()


def test_literal_consistency_that_runs_away_is_an_error() -> None:
    with pytest.raises(PaintoverError, match="evening frames .* a lower eta avoids that"):
        Shot(3).changes(steps=3, consistency="literal", eta=20, consistency_steps=500)


def test_cancel_takes_effect_between_passes() -> None:
    shot = Shot(5)
    with pytest.raises(PaintoverError, match="cancelled"):
        for stage in shot.plan(steps=20):
            if stage.name == "sample":
                shot.stop_after = 5
            shot.kept[stage.key] = {} if stage.publishes else to_tensors(stage.function(shot, stage))
    assert shot.stop_after == -1


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> inpaint.InpaintModel:
    """The jobs' model, its tier put back afterwards."""
    folder = models.locate(MODEL, "inpaint")
    model = inpaint.load(folder.path, models.locate_clip(folder))
    monkeypatch.setattr(model, "tier", memory.TIERS[0])
    monkeypatch.setattr(model, "notes", [])
    return model


def calls_of(module: torch.nn.Module, shot: Shot) -> int:
    """How often a job calls a part of the model."""
    calls: list[object] = []
    handle = module.register_forward_pre_hook(lambda *given: calls.append(given))
    shot.run(steps=4)
    handle.remove()
    return len(calls)


@pytest.mark.parametrize("part", ["unet", "vae.encoder", "vae.decoder"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_out_of_memory_is_noted_and_output_equal(model: inpaint.InpaintModel, part: str, place: str) -> None:
    module = operator.attrgetter(part)(model)
    expected, short = Shot(3), Shot(3)
    calls = calls_of(module, expected)
    with failing(module, torch.OutOfMemoryError("CUDA out of memory."), {1 if place == "first" else calls}):
        changes = short.changes(steps=4)
    assert model.tier is memory.TIERS[1]
    assert vp4.notes(short, short.ran) == ["The computer's memory ran out; going on in the tier for 24 GB."]
    np.testing.assert_allclose(changes, expected.changes(steps=4), atol=2e-3)


def test_nan_latents_stop_the_job_and_name_the_step(model: inpaint.InpaintModel) -> None:
    def spoil(_: object, __: object, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (output[0] * torch.nan,)

    handle = model.unet.register_forward_hook(spoil)
    try:
        with pytest.raises(
            PaintoverError, match="While painting frames 1 to 2.* at time step [0-9]+ of the model; less"
        ):
            Shot(3).run(steps=4)
    finally:
        handle.remove()


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920), (720, 720)])
def test_cells_keep_the_shots_aspect(width: int, height: int) -> None:
    shot = Shot(2)
    info = SourceInfo(
        "shot", "frames", 0, 1, width, height, "uint8", 3, None, False, "", "", False, 1, "", False, (), "plate"
    )
    stage = vp4.plan(info, shot.keys and [KeyframeRef(0, "key0")], VP4Parameters(), MODEL)[-1]
    (wide, high), inner = stage.parameters.view.size, stage.parameters.view.inner
    assert inner[0] / inner[1] == pytest.approx(width / height, rel=0.06)
    assert wide % 4 == high % 4 == 0
    assert 20 <= min(wide, high) <= 28
