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

from paintover_engine.diffusion import i2vedit as algorithm  # noqa: E402
from paintover_engine.diffusion import lora, svd, training  # noqa: E402
from paintover_engine.diffusion.memory import TIERS  # noqa: E402
from paintover_engine.errors import PaintoverError  # noqa: E402
from paintover_engine.jobs import outputs  # noqa: E402
from paintover_engine.jobs.folders import DataFolder  # noqa: E402
from paintover_engine.jobs.runner import Cancelled, Runner  # noqa: E402
from paintover_engine.jobs.store import Store  # noqa: E402
from paintover_engine.media.keyframe import load_keyframe  # noqa: E402
from paintover_engine.media.source import open_source, probe  # noqa: E402
from paintover_engine.methods import i2vedit, i2vedit_stages, pictures  # noqa: E402
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
def source(model: Any, sigmas: Any) -> algorithm.SourceWindow:
    clean = torch.randn(1, FRAMES, 4, 16, 16, generator=torch.Generator().manual_seed(8))
    condition = model.condition(torch.full((1, 3, 32, 32), 0.2), noise_aug=0.02)
    return algorithm.SourceWindow(algorithm.invert(model, clean, condition, sigmas), condition)


@pytest.fixture(scope="module")
def edited(model: Any) -> Any:
    return model.condition(torch.full((1, 3, 32, 32), -0.5), noise_aug=0.02)


@contextlib.contextmanager
def adapted(model: Any, *names: str) -> Iterator[lora.Adapters]:
    """Equal adapters of those names, whose output matters."""
    with lora.Adapters(model.unet, rank=2) as adapters:
        for name in names:
            adapters.add(name)
            generator = torch.Generator().manual_seed(1)
            for weight in adapters.train(name):
                weight.data.copy_(0.1 * torch.randn(weight.shape, generator=generator))
        adapters.train(None)
        yield adapters


@pytest.fixture(scope="module")
def plain(model: Any, sigmas: Any, source: algorithm.SourceWindow, edited: Any) -> Any:
    """The edited window by itself, with the default settings."""
    return algorithm.denoise(model, source, edited, sigmas, algorithm.EditSettings())


def far(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def test_inversion_with_itself_as_first_is_unchanged(model: Any, sigmas: Any, source: algorithm.SourceWindow) -> None:
    """Skip-interval attention exactly: every key and value stands there twice, which no softmax notices."""
    following = algorithm.invert(model, source.states[-1:], source.condition, sigmas, first=source)
    scale = (algorithm.levels(sigmas) ** 2 + 1).sqrt()[:, None, None, None, None]
    # Relative as well: float32's error grows with the values, and differs between processors.
    torch.testing.assert_close(following / scale, source.states / scale, atol=1e-4, rtol=1e-4)


def test_denoising_with_itself_as_first_is_unchanged(
    model: Any, sigmas: Any, source: algorithm.SourceWindow, edited: Any
) -> None:
    with adapted(model, "window", "first") as adapters:
        alone = algorithm.denoise(model, source, edited, sigmas, algorithm.EditSettings(), adapters=adapters)
        first = algorithm.EditedWindow(source, edited, alone)
        following = algorithm.denoise(
            model, source, edited, sigmas, algorithm.EditSettings(), first=first, adapters=adapters
        )
    assert far(alone[-1], source.states[-1]) > 0.1
    torch.testing.assert_close(following[-1], alone[-1], atol=2e-3, rtol=0)


def test_other_first_window_changes_the_edit(
    model: Any, sigmas: Any, source: algorithm.SourceWindow, edited: Any, plain: Any
) -> None:
    other = algorithm.EditedWindow(
        algorithm.SourceWindow(source.states.flip(1), source.condition), edited, plain.flip(1) + 0.5
    )
    following = algorithm.denoise(model, source, edited, sigmas, algorithm.EditSettings(), first=other)
    assert far(following[-1], plain[-1]) > 1e-2


def test_unbatched_network_calls_equal_the_batch(
    model: Any, sigmas: Any, source: algorithm.SourceWindow, edited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = algorithm.EditedWindow(source, edited, source.states)
    with adapted(model, "window", "first") as adapters:
        given: dict[str, Any] = {"adapters": adapters, "first": first}
        whole = algorithm.denoise(model, source, edited, sigmas[:2], algorithm.EditSettings(), **given)
        monkeypatch.setattr(model, "tier", TIERS[-1])
        parts = algorithm.denoise(model, source, edited, sigmas[:2], algorithm.EditSettings(), **given)
    torch.testing.assert_close(parts[-1], whole[-1], atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "style",
    [
        algorithm.EditSettings(matching=False),
        algorithm.EditSettings(bounds=(0.0, 0.0)),
        algorithm.EditSettings(threshold=0.0),
        algorithm.EditSettings(lower_source_level=True),
        algorithm.EditSettings(guidance=(1.0, 1.0)),
    ],
    ids=["no matching", "no temporal maps", "edit alone", "lower level", "no guidance"],
)
def test_every_edit_setting_changes_the_edit(
    model: Any, sigmas: Any, source: algorithm.SourceWindow, edited: Any, plain: Any, style: algorithm.EditSettings
) -> None:
    assert far(algorithm.denoise(model, source, edited, sigmas, style)[-1], plain[-1]) > 1e-5


def test_adapter_and_where_it_acts_change_the_edit(
    model: Any, sigmas: Any, source: algorithm.SourceWindow, edited: Any, plain: Any
) -> None:
    with adapted(model, "window") as adapters:
        some, everywhere = (
            algorithm.denoise(
                model, source, edited, sigmas, algorithm.EditSettings(adapted_source=share), adapters=adapters
            )
            for share in (False, True)
        )
    assert far(some[-1], plain[-1]) > 1e-3
    assert far(some[-1], everywhere[-1]) > 1e-5


def test_matching_without_an_edit_changes_nothing(model: Any, sigmas: Any, source: algorithm.SourceWindow) -> None:
    """The edit's own attention is the source's where both are one and the same, step by step."""
    free = algorithm.EditSettings(guidance=(1.0, 1.0), matching=False)
    held = algorithm.EditSettings(guidance=(1.0, 1.0), bounds=(1.0, 1.0))
    state = algorithm.denoise(model, source, source.condition, sigmas[:2], free)
    torch.testing.assert_close(
        algorithm.denoise(model, source, source.condition, sigmas[:2], held), state, atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unpack_inverts_pack(sigmas: Any, source: algorithm.SourceWindow, dtype: Any) -> None:
    packed, start = algorithm.pack(source.states, sigmas, dtype)
    restored = algorithm.unpack((packed, start), source.states[-1:], sigmas)
    assert packed.dtype == (torch.float32 if dtype == torch.float32 else torch.float16)
    scale = (algorithm.levels(sigmas) ** 2 + 1).sqrt()[:, None, None, None, None]
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


def test_every_frame_is_published_once(done: tuple[Job, list[Stage]]) -> None:
    job, stages = done
    numbers = [frame.number for stage in stages if stage.publishes for frame in job.store.frames(stage.key)]
    assert sorted(numbers) == list(range(11))


def test_stages_equal_the_algorithm_bit_for_bit(done: tuple[Job, list[Stage]], model: Any) -> None:
    job, stages = done
    first = of(stages, "paint")[0]
    view, window = first.parameters.view, first.parameters.window
    with job.runner(QUICK, job.ref) as runner:
        frames = torch.cat([pictures.plate(runner, view, number) for number in window])
        edited = pictures.keyframe(runner, view, job.ref.digest)
        kind = i2vedit_stages.KINDS[runner.load(of(stages, "choose")[0]).kind[0]]
        expected = torch.from_numpy(np.array(runner.load(first).latents))
    settings = algorithm.I2VEditSettings(
        steps=STEPS,
        rank=2,
        training=training.TrainingSettings(steps=2, early=False),
        edit=algorithm.EditSettings(bounds=i2vedit_stages.BOUNDS[kind]),
    )
    result = algorithm.edit(model, frames, edited, settings, number=window[0])
    assert torch.equal(result.states[-1], expected)
    assert far(result.states[-1], result.source.states[-1]) > 0.1


def test_inversion_and_training_are_prepared(done: tuple[Job, list[Stage]]) -> None:
    job, stages = done
    with job.runner(QUICK) as prepared:
        keys = {stage.key for stage in prepared.stages}
    for stage in [*of(stages, "encode"), *of(stages, "invert"), *of(stages, "train")]:
        assert not stage.needs_keyframe
        assert stage.key in keys


def test_second_edit_trains_nothing_again(done: tuple[Job, list[Stage]], tmp_path: Path) -> None:
    job, _ = done
    picture = cv2.imread(str(job.shot.keyframe))
    cv2.imwrite(str(tmp_path / "again.png"), 255 - picture)
    with job.runner(QUICK, job.add(tmp_path / "again.png", 0)) as runner:
        functions = {label.split()[0] for label in job.missing(runner)}
    assert not functions & {"encode", "invert", "train", "flow"}
    assert "paint" in functions


def test_no_queries_keys_or_maps_are_stored(done: tuple[Job, list[Stage]]) -> None:
    """All that is kept of a window's source are its latents at every level."""
    job, stages = done
    for stage in of(stages, "invert"):
        kept = outputs.load_tensors(job.store, stage.key)
        shapes = {name: value.shape for name, value in kept.items()}
        assert shapes == {"states": (STEPS, FRAMES, 4, 16, 16), "start": (FRAMES, 4, 16, 16)}
    painted = [set(outputs.load_tensors(job.store, stage.key)) for stage in of(stages, "paint")]
    assert painted == [{"latents", "states", "start"}, {"latents"}]


def test_later_windows_attend_to_the_first(done: tuple[Job, list[Stage]]) -> None:
    stages = done[1]
    first, second = of(stages, "paint")
    assert first.parameters.first is None
    assert second.parameters.first == first.parameters.window
    assert first.key in {needed.key for needed in second.inputs}


def test_motion_adapter_is_a_file_that_peft_reads(
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


def test_interrupted_training_resumes_from_checkpoint(
    done: tuple[Job, list[Stage]], tmp_path: Path, tiny_svd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i2vedit_stages, "CHECKPOINT", 1)
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


def test_job_notes_the_kind_of_edit(done: tuple[Job, list[Stage]]) -> None:
    job, stages = done
    with job.runner(QUICK, job.ref) as runner:
        told = i2vedit.notes(runner, stages)
    assert len(told) == 1
    assert told[0].startswith("Frame 0 was taken as the preset 'shape': it changes 13% of the frame ")


def test_chosen_preset_is_used_without_a_note(tmp_path: Path, tiny_svd: Path) -> None:
    job = Job(tmp_path, tiny_svd, count=6)
    with job.runner(QUICK.model_copy(update={"preset": "style"}), job.ref) as runner:
        choose = next(stage for stage in runner.stages if stage.name == "choose")
        runner.run(choose)
        assert i2vedit_stages.KINDS[runner.load(choose).kind[0]] == "style"
        assert i2vedit.notes(runner, [choose]) == []


# What goes wrong.


@pytest.mark.parametrize(
    ("part", "function"), [("unet", "train"), ("vae.encoder", "encode"), ("vae.decoder", "result")]
)
def test_out_of_memory_in_any_stage_is_noted(
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


def test_out_of_memory_in_optimiser_resumes_training(
    tmp_path: Path, tiny_svd: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i2vedit_stages, "CHECKPOINT", 1)
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


def test_nan_latents_stop_the_window_and_name_the_step(
    model: Any, sigmas: Any, source: algorithm.SourceWindow, edited: Any
) -> None:
    calls: list[int] = []

    def spoil(_: Any, __: Any, output: Any) -> Any:
        calls.append(1)
        return (output[0] * torch.nan,) if len(calls) == 3 else output

    handle = model.unet.register_forward_hook(spoil)
    try:
        with pytest.raises(PaintoverError, match="While inverting frames 0 to 5.* at call 3 of the network"):
            algorithm.invert(model, source.states[-1:], source.condition, sigmas, frames="frames 0 to 5")
        calls.clear()
        with pytest.raises(PaintoverError, match="While painting frames 0 to 5.* at step 3 of 4"):
            algorithm.denoise(model, source, edited, sigmas, algorithm.EditSettings(), frames="frames 0 to 5")
    finally:
        handle.remove()


def test_nan_loss_stops_training_and_names_the_step(model: Any, sigmas: Any, source: algorithm.SourceWindow) -> None:
    settings = training.TrainingSettings(steps=3, early=False)
    with adapted(model, "window") as adapters, pytest.raises(PaintoverError, match="at step 1; a lower learning_rate"):
        algorithm.train(model, adapters, source.states[-1:] * torch.nan, source.condition, settings, sigmas=sigmas)


# What a plan holds.


def planned(tmp_path: Path, tiny_svd: Path, **given: Any) -> list[Stage]:
    job = Job(tmp_path, tiny_svd, count=16)
    with job.runner(QUICK.model_copy(update=given), job.ref) as runner:
        return runner.stages


def test_without_adapters_nothing_is_trained(tmp_path: Path, tiny_svd: Path) -> None:
    assert not of(planned(tmp_path, tiny_svd, adapters=False), "train")


def test_without_skip_interval_first_is_not_needed(tmp_path: Path, tiny_svd: Path) -> None:
    stages = planned(tmp_path, tiny_svd, skip_interval=False)
    assert all(stage.parameters.first is None for stage in (*of(stages, "invert"), *of(stages, "train")))
    painted = of(stages, "paint")
    assert not any(stage.parameters.states for stage in painted)
    assert painted[0].key not in {needed.key for needed in painted[2].inputs}


def test_adapted_source_is_inverted_after_training(tmp_path: Path, tiny_svd: Path) -> None:
    stages = planned(tmp_path, tiny_svd, adapted_source=True)
    functions = [stage.name for stage in stages]
    assert functions.index("train") < functions.index("invert")


def test_training_size_small_trains_at_a_smaller_size(tmp_path: Path, tiny_svd: Path) -> None:
    stages = planned(tmp_path, tiny_svd, training_size="small")
    assert {tuple(stage.parameters.view.size) for stage in of(stages, "paint")} == {(32, 32)}
    assert {tuple(stage.parameters.view.size) for stage in of(stages, "train")} == {(16, 16)}
    sizes = [tuple(stage.parameters.view.size) for stage in of(stages, "invert")]
    assert sizes.count((16, 16)) == 1  # the first window's, which the others' training looks at


def test_results_between_two_keyframes_have_two_sides(tmp_path: Path, tiny_svd: Path) -> None:
    job = Job(tmp_path, tiny_svd)
    cv2.imwrite(str(tmp_path / "last.png"), 255 - job.shot.plate(10))
    last = job.add(tmp_path / "last.png", 10)
    with job.runner(QUICK, job.ref, last) as runner:
        spans = [stage.frames for stage in of(runner.stages, "result")]
        sides = [len(stage.parameters.sides) for stage in of(runner.stages, "result")]
    frames = [number for first, end in spans for number in range(first, end + 1)]
    assert sorted(frames) == list(range(1, 10))
    assert set(sides) == {2}
