"""Running stages two at a time while the result is written: real draft stages on a small rendered shot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.runner import Cancelled, Runner
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.source import open_source, probe
from paintover_engine.methods import draft, tracking
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef, Stage
from paintover_evaluation.scenes import CASES

TIMEOUT = 30.0


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames of a rendered scene, a keyframe at 0, the same place in other colours, and another place."""
    folder = tmp_path_factory.mktemp("shot")
    (folder / "plate").mkdir()
    for number in range(20):
        rendered = CASES["glaze"].render(number, 160, 90)
        cv2.imwrite(str(folder / "plate" / f"{number:03d}.png"), rendered.plate[..., ::-1])
        if number == 0:
            painted = (rendered.truth != rendered.plate).any(-1, keepdims=True)
            cv2.imwrite(str(folder / "key.png"), rendered.truth[..., ::-1])
            other = np.where(painted, 255 - rendered.plate, rendered.plate)
            cv2.imwrite(str(folder / "other_colour.png"), other[..., ::-1])
            cv2.circle(other, (30, 30), 9, (0, 255, 0), -1)
            cv2.imwrite(str(folder / "other_place.png"), other[..., ::-1])
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return empty_store(tmp_path / "data")


def empty_store(root: Path) -> Store:
    folder = DataFolder(root)
    folder.create()
    return Store(folder)


def edit(shot: Path, store: Store, picture: str = "key.png", output: Output | None = None) -> Runner:
    """A draft of a keyframe at 0."""
    info = probe(str(shot / "plate"))
    with open_source(info) as source:
        keyframe = load_keyframe(shot / picture, 0, source.read(0), info)
    outputs.save_keyframe(store.folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
    keys = [KeyframeRef(0, keyframe.digest)]
    return Runner(store, info, "draft", DraftParameters(mode="colour"), keys, output=output)


@pytest.fixture
def runner(shot: Path, store: Store) -> Iterator[Runner]:
    with edit(shot, store) as made:
        yield made


def run_before(runner: Runner, label: str) -> tuple[Stage, list[Stage]]:
    """Runs the stages before the one of that label, each alone; returns that one and those after it."""
    place = next(index for index, stage in enumerate(runner.stages) if stage.label == label)
    for stage in runner.stages[:place]:
        runner.run(stage)
    return runner.stages[place], runner.stages[place + 1 :]


def test_next_independent_stage_runs_concurrently(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, later = run_before(runner, "result 1-7")
    begun, flow, result = threading.Event(), tracking.flow.compute, draft.result.compute

    def flowed(context: Any, stage: Stage) -> Any:
        begun.set()
        return flow(context, stage)

    def patient(context: Any, stage: Stage) -> Any:
        assert begun.wait(TIMEOUT), "nothing ran beside it"
        return result(context, stage)

    monkeypatch.setattr(tracking.flow, "compute", flowed)
    monkeypatch.setattr(draft.result, "compute", patient)
    report = runner.run(stage, later)
    assert [frame.number for frame in report.frames] == list(range(1, 8))


def test_concurrent_stage_runs_once(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    run = runner._run
    monkeypatch.setattr(runner, "_run", lambda stage: (ran.append(stage.label), run(stage))[1])
    for number, stage in enumerate(runner.stages, start=1):
        assert runner.run(stage, runner.stages[number:]).seconds > 0
    assert sorted(ran) == sorted(stage.label for stage in runner.stages)


def test_error_of_a_concurrent_stage_is_raised_later(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, later = run_before(runner, "result 1-7")

    def broken(context: Any, stage: Stage) -> Any:
        raise ValueError(stage.label)

    monkeypatch.setattr(tracking.flow, "compute", broken)
    runner.run(stage, later)
    with pytest.raises(ValueError, match="flow 8-11"):
        runner.run(later[0], later[1:])


def test_failed_concurrent_stage_is_retried(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, later = run_before(runner, "result 1-7")
    flow, ran = tracking.flow.compute, threading.Event()

    def broken_once(context: Any, stage: Stage) -> Any:
        if not ran.is_set():
            ran.set()
            raise PaintoverError(Code.UNAVAILABLE, "The server of the plates does not answer.")
        return flow(context, stage)

    monkeypatch.setattr(tracking.flow, "compute", broken_once)
    runner.run(stage, later)
    assert ran.wait(TIMEOUT)
    with pytest.raises(PaintoverError, match="does not answer"):
        runner.run(later[0], later[1:])
    assert runner.run(later[0], later[1:]).seconds > 0


def test_close_ends_concurrent_stages(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, later = run_before(runner, "result 1-7")
    begun, ended = threading.Event(), threading.Event()

    def endless(context: Any, stage: Stage) -> Any:
        begun.set()
        try:
            while True:
                context.check()
                time.sleep(0.01)
        except Cancelled:
            ended.set()
            raise

    monkeypatch.setattr(tracking.flow, "compute", endless)
    runner.run(stage, later)
    assert begun.wait(TIMEOUT) and not ended.is_set()
    runner.close()
    assert ended.is_set()
    assert not runner.store.has(later[0].key, later[0].publishes)


def functions_run(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The functions that running a whole job calls."""
    called: set[str] = set()
    with monkeypatch.context() as patch:
        for function in {stage.function for stage in runner.stages}:

            def recorded(context: Any, stage: Stage, compute: Any = function.compute) -> Any:
                called.add(stage.name)
                return compute(context, stage)

            patch.setattr(function, "compute", recorded)
        runner.run_all()
    return called


def frames_of(runner: Runner) -> dict[int, bytes]:
    """The result's samples by frame."""
    found = [frame for stage in runner.stages if stage.publishes for frame in runner.store.frames(stage.key)]
    return {frame.number: outputs.load_painted(frame).tobytes() for frame in found}


def test_recoloured_edit_reuses_stages_of_its_place(
    shot: Path, store: Store, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run_all()
    with edit(shot, store, "other_colour.png") as again:
        assert functions_run(again, monkeypatch) == {"matte", "result_at_key", "colour", "kind", "region", "result"}
        assert all(store.has(stage.key, stage.publishes) for stage in again.stages)
        found = frames_of(again)
    with edit(shot, empty_store(tmp_path / "fresh"), "other_colour.png") as alone:
        alone.run_all()
        assert frames_of(alone) == found


def test_moved_edit_is_propagated_again(
    shot: Path, store: Store, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run_all()
    with edit(shot, store, "other_place.png") as again:
        assert {"learn", "propagate"} <= functions_run(again, monkeypatch)


def test_evicted_stages_are_computed_again(
    shot: Path, store: Store, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.run_all()
    for stage in runner.stages:
        if stage.name == "propagate":
            store.remove(stage.key, stage.publishes)
    with edit(shot, store, "other_colour.png") as again:
        called = functions_run(again, monkeypatch)
        assert "propagate" in called and "learn" not in called


def test_result_is_written_while_stages_run(shot: Path, store: Store, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with edit(shot, store, output=Output(str(target) + "/", mattes=str(tmp_path / "mattes") + "/")) as runner:
        runner.run_all()
        end = time.monotonic() + TIMEOUT
        while sum(len(list(staged.glob("*.png"))) for staged in tmp_path.glob(".out-*.partial")) < 20:
            assert time.monotonic() < end, "nothing was written before it was asked for"
            time.sleep(0.01)
        assert not target.exists()
        assert runner.deliver() == ()
    assert len(list(target.glob("*.png"))) == len(list((tmp_path / "mattes").iterdir())) == 20
    assert not list(tmp_path.glob(".*"))


def test_close_leaves_no_partial_output(shot: Path, store: Store, tmp_path: Path) -> None:
    with edit(shot, store, output=Output(str(tmp_path / "out.mp4"))) as runner:
        for stage in runner.stages[: len(runner.stages) // 2]:
            runner.run(stage)
        assert list(tmp_path.glob(".out.mp4-*.partial"))
    assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".*"))


def test_write_error_is_raised_at_delivery(shot: Path, store: Store, tmp_path: Path) -> None:
    with edit(shot, store, output=Output(str(tmp_path / "out.mp4"))) as runner:
        runner.run_all()
        (tmp_path / "out.mp4").write_text("somebody else's")
        with pytest.raises(PaintoverError, match="--overwrite"):
            runner.deliver()
        (tmp_path / "out.mp4").unlink()
        runner.deliver()
    assert (tmp_path / "out.mp4").stat().st_size > 1000


def test_cancelled_delivery_can_be_repeated(shot: Path, store: Store, tmp_path: Path) -> None:
    with edit(shot, store, output=Output(str(tmp_path / "out.mp4"))) as runner:
        runner.run_all()
        runner.cancelled = lambda: True
        with pytest.raises(Cancelled):
            runner.deliver()
        assert not list(tmp_path.glob("*out*")) and not list(tmp_path.glob(".*"))
        runner.cancelled = lambda: False
        runner.deliver()
    assert (tmp_path / "out.mp4").exists()


def test_result_removed_during_delivery_is_transient(shot: Path, store: Store, tmp_path: Path) -> None:
    with edit(shot, store, output=Output(str(tmp_path / "out.mp4"))) as runner:
        *others, last = runner.stages
        for stage in others:
            runner.run(stage)
        with pytest.raises(PaintoverError) as gone:
            runner.deliver()
        assert gone.value.code is Code.UNAVAILABLE
        runner.run(last)
        runner.deliver()
    assert (tmp_path / "out.mp4").exists()
