"""I2VEdit on small shots and a tiny model with random weights: its parts one by one, and whole jobs."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from paintover_engine.diffusion import editing, lora, svd, training  # noqa: E402
from paintover_engine.diffusion.memory import TIERS  # noqa: E402
from paintover_engine.errors import PaintoverError  # noqa: E402
from paintover_engine.jobs import outputs  # noqa: E402
from paintover_engine.jobs.folders import DataFolder  # noqa: E402
from paintover_engine.jobs.runner import Cancelled, Runner  # noqa: E402
from paintover_engine.jobs.store import Store  # noqa: E402
from paintover_engine.media.keyframe import load_keyframe  # noqa: E402
from paintover_engine.media.source import open_source, probe  # noqa: E402
from paintover_engine.methods import i2vedit  # noqa: E402
from paintover_engine.methods.parameters import I2VEditParameters  # noqa: E402
from paintover_engine.methods.stage import KeyframeRef, Stage  # noqa: E402

from tests.conftest import SmallShot, make_small_shot  # noqa: E402
from tests.engine.diffusion.faults import failing  # noqa: E402

FRAMES, STEPS = 6, 4
QUICK = I2VEditParameters(steps=STEPS, training_steps=2, rank=2, stop_early=False)


# One window, on tensors.


@pytest.fixture(scope="module")
def model(tiny_svd: Path) -> Any:
    return svd.load(tiny_svd, "cpu")


@pytest.fixture(scope="module")
def sigmas(model: Any) -> Any:
    return model.config.sigmas(STEPS)


@pytest.fixture(scope="module")
def source(model: Any, sigmas: Any) -> editing.Source:
    clean = torch.randn(1, FRAMES, 4, 16, 16, generator=torch.Generator().manual_seed(8))
    condition = model.condition(torch.full((1, 3, 32, 32), 0.2), noise_aug=0.02)
    return editing.Source(editing.invert(model, clean, condition, sigmas), condition)


@pytest.fixture(scope="module")
def edited(model: Any) -> Any:
    return model.condition(torch.full((1, 3, 32, 32), -0.5), noise_aug=0.02)


@contextlib.contextmanager
def adapted(model: Any, *names: str) -> Iterator[lora.Adapters]:
    """Equal adapters of those names, whose output matters."""
    with lora.Adapters(model.unet, rank=2) as made:
        for name in names:
            made.add(name)
            generator = torch.Generator().manual_seed(1)
            for weight in made.train(name):
                weight.data.copy_(0.1 * torch.randn(weight.shape, generator=generator))
        made.train(None)
        yield made


@pytest.fixture(scope="module")
def plain(model: Any, sigmas: Any, source: editing.Source, edited: Any) -> Any:
    """The window painted by itself."""
    return editing.paint(model, source, edited, sigmas, editing.Style())


def far(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def test_a_window_whose_first_window_is_itself_is_inverted_as_if_alone(
    model: Any, sigmas: Any, source: editing.Source
) -> None:
    """Skip-interval attention exactly: every key and value stands there twice, which no softmax notices."""
    following = editing.invert(model, source.states[-1:], source.condition, sigmas, first=source)
    scale = (editing.levels(sigmas) ** 2 + 1).sqrt()[:, None, None, None, None]
    torch.testing.assert_close(following / scale, source.states / scale, atol=1e-4, rtol=0)


def test_a_window_whose_first_window_is_itself_is_painted_as_if_alone(
    model: Any, sigmas: Any, source: editing.Source, edited: Any
) -> None:
    with adapted(model, "window", "first") as adapters:
        alone = editing.paint(model, source, edited, sigmas, editing.Style(), adapters=adapters)
        first = editing.Painted(source, edited, alone)
        following = editing.paint(model, source, edited, sigmas, editing.Style(), first=first, adapters=adapters)
    assert far(alone[-1], source.states[-1]) > 0.1
    torch.testing.assert_close(following[-1], alone[-1], atol=2e-3, rtol=0)


def test_another_first_window_is_noticed(
    model: Any, sigmas: Any, source: editing.Source, edited: Any, plain: Any
) -> None:
    other = editing.Painted(editing.Source(source.states.flip(1), source.condition), edited, plain.flip(1) + 0.5)
    following = editing.paint(model, source, edited, sigmas, editing.Style(), first=other)
    assert far(following[-1], plain[-1]) > 1e-2


def test_the_parts_of_a_batch_one_by_one_give_what_the_batch_gives(
    model: Any, sigmas: Any, source: editing.Source, edited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = editing.Painted(source, edited, source.states)
    with adapted(model, "window", "first") as adapters:
        given: dict[str, Any] = {"adapters": adapters, "first": first}
        whole = editing.paint(model, source, edited, sigmas[:2], editing.Style(), **given)
        monkeypatch.setattr(model, "tier", TIERS[-1])
        parts = editing.paint(model, source, edited, sigmas[:2], editing.Style(), **given)
    torch.testing.assert_close(parts[-1], whole[-1], atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "style",
    [
        editing.Style(matches=False),
        editing.Style(bounds=(0.0, 0.0)),
        editing.Style(threshold=0.0),
        editing.Style(lower=True),
        editing.Style(guidance=(1.0, 1.0)),
    ],
    ids=["no matching", "no temporal maps", "edit alone", "lower level", "no guidance"],
)
def test_every_switch_of_the_painting_changes_it(
    model: Any, sigmas: Any, source: editing.Source, edited: Any, plain: Any, style: editing.Style
) -> None:
    assert far(editing.paint(model, source, edited, sigmas, style)[-1], plain[-1]) > 1e-5


def test_an_adapter_and_where_it_acts_change_the_painting(
    model: Any, sigmas: Any, source: editing.Source, edited: Any, plain: Any
) -> None:
    with adapted(model, "window") as adapters:
        some, everywhere = (
            editing.paint(model, source, edited, sigmas, editing.Style(adapted_source=share), adapters=adapters)
            for share in (False, True)
        )
    assert far(some[-1], plain[-1]) > 1e-3
    assert far(some[-1], everywhere[-1]) > 1e-5


def test_what_is_painted_without_an_edit_is_the_same_with_and_without_matching(
    model: Any, sigmas: Any, source: editing.Source
) -> None:
    """The edit's own attention is the source's where both are one and the same, step by step."""
    free = editing.Style(guidance=(1.0, 1.0), matches=False)
    held = editing.Style(guidance=(1.0, 1.0), bounds=(1.0, 1.0))
    state = editing.paint(model, source, source.condition, sigmas[:2], free)
    torch.testing.assert_close(
        editing.paint(model, source, source.condition, sigmas[:2], held), state, atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_states_come_back(model: Any, sigmas: Any, source: editing.Source, dtype: Any) -> None:
    class Half:
        pass

    stand_in: Any = Half()
    stand_in.dtype, stand_in.config = dtype, model.config
    kept = i2vedit._kept(stand_in, source.states, sigmas)
    restored = i2vedit._restored(stand_in, kept, source.states[-1:], STEPS)
    assert kept["states"].dtype == (np.float32 if dtype == torch.float32 else np.float16)
    scale = (editing.levels(sigmas) ** 2 + 1).sqrt()[:, None, None, None, None]
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3
    torch.testing.assert_close(restored / scale, source.states / scale, atol=tolerance, rtol=0)
    assert torch.equal(restored[0], source.states[0])


# Whole jobs.


class Job:
    """A small shot, its data folder, and jobs on it in this process."""

    def __init__(self, folder: Path, model: Path, count: int = 11, key: int = 0) -> None:
        self.shot: SmallShot = make_small_shot(folder / "shot", count=count, key=key, width=64, height=64)
        root = DataFolder(folder / "data")
        root.create()
        self.store, self.model = Store(root), model
        self.info = probe(str(self.shot.source), None, None, "")
        self.ref = self.add(self.shot.keyframe, key)

    def add(self, picture: Path, frame: int) -> KeyframeRef:
        source = open_source(self.info)
        keyframe = load_keyframe(str(picture), frame, source.read(frame), self.info, None)
        source.close()
        outputs.save_keyframe(self.store.folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
        return KeyframeRef(frame, keyframe.digest)

    def runner(
        self, parameters: I2VEditParameters = QUICK, *keys: KeyframeRef, cancelled: Callable[[], bool] = lambda: False
    ) -> Runner:
        return Runner(self.store, self.info, "i2vedit", parameters, keys, cancelled, model=str(self.model))

    def missing(self, runner: Runner) -> list[str]:
        return [stage.label for stage in runner.stages if not self.store.has(stage.key, stage.publishes)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_svd: Path) -> tuple[Job, list[Stage]]:
    """A finished job of two windows."""
    job = Job(tmp_path_factory.mktemp("job"), tiny_svd)
    with job.runner(QUICK, job.ref) as runner:
        runner.run_all()
        return job, runner.stages


def of(stages: list[Stage], function: str) -> list[Stage]:
    return [stage for stage in stages if stage.name == function]


def test_every_frame_is_painted_once(done: tuple[Job, list[Stage]]) -> None:
    job, stages = done
    numbers = [frame.number for stage in stages if stage.publishes for frame in job.store.frames(stage.key)]
    assert sorted(numbers) == list(range(11))


def test_inversion_and_training_are_of_the_plate_alone_and_prepared(done: tuple[Job, list[Stage]]) -> None:
    job, stages = done
    with job.runner(QUICK) as prepared:
        keys = {stage.key for stage in prepared.stages}
    for stage in [*of(stages, "encode"), *of(stages, "invert"), *of(stages, "train")]:
        assert not stage.needs_keyframe
        assert stage.key in keys


def test_another_edit_trains_nothing_again(done: tuple[Job, list[Stage]], tmp_path: Path) -> None:
    job, _ = done
    picture = cv2.imread(str(job.shot.keyframe))
    cv2.imwrite(str(tmp_path / "again.png"), 255 - picture)
    with job.runner(QUICK, job.add(tmp_path / "again.png", 0)) as runner:
        functions = {label.split()[0] for label in job.missing(runner)}
    assert not functions & {"encode", "invert", "train", "flow"}
    assert "paint" in functions


def test_no_queries_keys_or_maps_are_kept(done: tuple[Job, list[Stage]]) -> None:
    """All that is kept of a window's source are its latents at every level."""
    job, stages = done
    for stage in of(stages, "invert"):
        kept = outputs.load_tensors(job.store, stage.key)
        shapes = {name: value.shape for name, value in kept.items()}
        assert shapes == {"states": (STEPS, FRAMES, 4, 16, 16), "start": (FRAMES, 4, 16, 16)}
    painted = [set(outputs.load_tensors(job.store, stage.key)) for stage in of(stages, "paint")]
    assert painted == [{"latents", "states", "start"}, {"latents"}]


def test_later_windows_look_at_the_first_one(done: tuple[Job, list[Stage]]) -> None:
    stages = done[1]
    first, second = of(stages, "paint")
    assert first.parameters["first"] is None
    assert second.parameters["first"] == first.parameters["window"]
    assert first.key in {needed.key for needed in second.inputs}


def test_a_motion_adapter_is_a_file_that_peft_reads(
    done: tuple[Job, list[Stage]], tmp_path: Path, tiny_svd: Path
) -> None:
    import diffusers
    import peft
    from safetensors.torch import load_file

    job, stages = done
    weights = load_file(job.store.path(of(stages, "train")[0].key, False) / "tensors.safetensors")
    assert all(name.startswith("base_model.model.") for name in weights)
    lora.save(tmp_path, weights)
    unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tiny_svd / "unet")
    loaded = peft.PeftModel.from_pretrained(unet, tmp_path)
    state = peft.get_peft_model_state_dict(loaded)
    assert set(state) == set(weights)
    assert all(torch.equal(state[name], weights[name].float()) for name in weights)


def test_stages_that_use_a_model_run_alone(tmp_path: Path, tiny_svd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, begun = Job(tmp_path, tiny_svd, count=6), []
    with job.runner(QUICK, job.ref) as runner:
        run = runner._run
        monkeypatch.setattr(runner, "_run", lambda stage: (begun.append(stage), run(stage))[1])
        first, *later = runner.stages
        runner.run(first, later)
    assert begun == [first]  # closing waits for whatever else was begun


def test_an_interrupted_training_goes_on_from_its_checkpoint(
    done: tuple[Job, list[Stage]], tmp_path: Path, tiny_svd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i2vedit, "CHECKPOINT", 1)
    job = Job(tmp_path, tiny_svd, count=6)
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) == limit

    with job.runner(QUICK, job.ref, cancelled=cancelled) as runner:
        train = next(stage for stage in runner.stages if stage.name == "train")
        limit = -1
        for stage in runner.stages[: runner.stages.index(train)]:
            runner.run(stage)
        asked.clear()
        limit = 3  # once for the stage, once for each step
        with pytest.raises(Cancelled):
            runner.run(train)
        kept = runner.checkpoint(train)
        assert kept is not None
        assert int(kept["step"][0]) == 1
        asked.clear()
        limit = -1
        runner.run(train)
        assert len(asked) == 2
        assert runner.checkpoint(train) is None
        resumed = outputs.load_tensors(job.store, train.key)
        job.store.remove(train.key, False)
        runner.run(train)
        whole = outputs.load_tensors(job.store, train.key)
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


def test_the_job_tells_how_it_took_the_edit(done: tuple[Job, list[Stage]]) -> None:
    job, stages = done
    with job.runner(QUICK, job.ref) as runner:
        told = i2vedit.notes(runner, stages)
    assert len(told) == 1
    assert told[0].startswith("Frame 0 was taken as the preset 'shape': it changes 13% of the frame ")


def test_a_preset_that_was_chosen_is_taken_and_not_told(tmp_path: Path, tiny_svd: Path) -> None:
    job = Job(tmp_path, tiny_svd, count=6)
    with job.runner(QUICK.model_copy(update={"preset": "style"}), job.ref) as runner:
        choose = next(stage for stage in runner.stages if stage.name == "choose")
        runner.run(choose)
        assert i2vedit.KINDS[runner.load(choose)["kind"][0]] == "style"
        assert i2vedit.notes(runner, [choose]) == []


# What goes wrong.


@pytest.mark.parametrize(
    ("part", "function"), [("unet", "train"), ("vae.encoder", "encode"), ("vae.decoder", "result")]
)
def test_memory_that_ran_out_in_any_stage_is_told_at_the_end(
    tmp_path: Path, tiny_svd: Path, model: Any, monkeypatch: pytest.MonkeyPatch, part: str, function: str
) -> None:
    """Among them the last decoding, which belongs to a stage that keeps frames alone, and training, whose output is
    peft's file."""
    monkeypatch.setattr(model, "tier", TIERS[0])
    monkeypatch.setattr(model, "notes", [])
    job = Job(tmp_path, tiny_svd, count=6)
    with job.runner(QUICK, job.ref) as runner:
        chosen = of(runner.stages, function)[-1]
        for stage in runner.stages:
            if stage is chosen:
                with failing(operator.attrgetter(part)(model), torch.OutOfMemoryError("CUDA out of memory."), {1}):
                    runner.run(stage)
            elif not job.store.has(stage.key, stage.publishes):
                runner.run(stage)
    with job.runner(QUICK, job.ref) as another:  # as after the worker's death
        notes = another.notes()
    assert notes[1:] == ["The computer's memory ran out; going on in the tier for 24 GB."]


def test_a_training_whose_optimiser_finds_no_memory_goes_on_from_its_checkpoint(
    tmp_path: Path, tiny_svd: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i2vedit, "CHECKPOINT", 1)
    monkeypatch.setattr(model, "tier", TIERS[0])
    monkeypatch.setattr(model, "notes", [])
    job, steps = Job(tmp_path, tiny_svd, count=6), []
    step = torch.optim.AdamW.step

    def scarce(self: Any, *given: Any) -> Any:
        steps.append(1)
        if len(steps) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, *given)

    with job.runner(QUICK) as runner:
        train = next(stage for stage in runner.stages if stage.name == "train")
        for stage in runner.stages[: runner.stages.index(train)]:
            runner.run(stage)
        runner.run(train)
        expected = outputs.load_tensors(job.store, train.key)
        job.store.remove(train.key, False)
        monkeypatch.setattr(torch.optim.AdamW, "step", scarce)
        runner.run(train)
        found = outputs.load_tensors(job.store, train.key)
        assert i2vedit.notes(runner, [train]) == ["The computer's memory ran out; going on in the tier for 24 GB."]
    assert len(steps) == 3
    assert set(found) == set(expected)
    assert all(np.allclose(found[name], expected[name], atol=1e-4) for name in found)


def test_latents_that_are_no_numbers_stop_the_window_and_the_step_is_named(
    model: Any, sigmas: Any, source: editing.Source, edited: Any
) -> None:
    calls: list[int] = []

    def spoil(_: Any, __: Any, output: Any) -> Any:
        calls.append(1)
        return (output[0] * torch.nan,) if len(calls) == 3 else output

    handle = model.unet.register_forward_hook(spoil)
    try:
        with pytest.raises(PaintoverError, match="While inverting frames 0 to 5.* at call 3 of the network"):
            editing.invert(model, source.states[-1:], source.condition, sigmas, frames="frames 0 to 5")
        calls.clear()
        with pytest.raises(PaintoverError, match="While painting frames 0 to 5.* at step 3 of 4"):
            editing.paint(model, source, edited, sigmas, editing.Style(), frames="frames 0 to 5")
    finally:
        handle.remove()


def test_a_motion_that_cannot_be_learned_is_told_and_the_step_is_named(
    model: Any, sigmas: Any, source: editing.Source
) -> None:
    settings = training.Settings(steps=3, early=False)
    with adapted(model, "window") as adapters, pytest.raises(PaintoverError, match="at step 1; a lower learning_rate"):
        editing.train(model, adapters, source.states[-1:] * torch.nan, source.condition, settings, sigmas=sigmas)


# What a plan holds.


def planned(tmp_path: Path, tiny_svd: Path, **given: Any) -> list[Stage]:
    job = Job(tmp_path, tiny_svd, count=16)
    with job.runner(QUICK.model_copy(update=given), job.ref) as runner:
        return runner.stages


def test_without_adapters_nothing_is_trained(tmp_path: Path, tiny_svd: Path) -> None:
    assert not of(planned(tmp_path, tiny_svd, adapters=False), "train")


def test_without_skip_interval_no_window_needs_the_first_one(tmp_path: Path, tiny_svd: Path) -> None:
    stages = planned(tmp_path, tiny_svd, skip_interval=False)
    assert all(stage.parameters["first"] is None for stage in (*of(stages, "invert"), *of(stages, "train")))
    painted = of(stages, "paint")
    assert not any(stage.parameters["kept"] for stage in painted)
    assert painted[0].key not in {needed.key for needed in painted[2].inputs}


def test_a_source_with_adapters_is_inverted_after_its_training(tmp_path: Path, tiny_svd: Path) -> None:
    stages = planned(tmp_path, tiny_svd, adapted_source=True)
    functions = [stage.name for stage in stages]
    assert functions.index("train") < functions.index("invert")


def test_motion_is_learned_at_a_smaller_size_where_asked(tmp_path: Path, tiny_svd: Path) -> None:
    stages = planned(tmp_path, tiny_svd, training_size="small")
    assert {tuple(stage.parameters["size"]) for stage in of(stages, "paint")} == {(32, 32)}
    assert {tuple(stage.parameters["size"]) for stage in of(stages, "train")} == {(16, 16)}
    sizes = [tuple(stage.parameters["size"]) for stage in of(stages, "invert")]
    assert sizes.count((16, 16)) == 1  # the first window's, which the others' training looks at


def test_two_keyframes_meet(tmp_path: Path, tiny_svd: Path) -> None:
    job = Job(tmp_path, tiny_svd)
    cv2.imwrite(str(tmp_path / "last.png"), 255 - job.shot.plate(10))
    last = job.add(tmp_path / "last.png", 10)
    with job.runner(QUICK, job.ref, last) as runner:
        spans = [stage.frames for stage in of(runner.stages, "result")]
        sides = [len(stage.parameters["sides"]) for stage in of(runner.stages, "result")]
    frames = [number for first, end in spans for number in range(first, end + 1)]
    assert sorted(frames) == list(range(1, 10))
    assert set(sides) == {2}
