"""Two stages of a job at a time: real draft stages on a small rendered shot."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.evaluate.scenes import CASES
from paintover_engine.jobs import outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.runner import Cancelled, Runner
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.source import open_source, probe
from paintover_engine.methods import draft
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef, Stage

PATIENCE = 30.0


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames of a rendered scene and a keyframe at 0."""
    folder = tmp_path_factory.mktemp("shot")
    (folder / "plate").mkdir()
    for number in range(20):
        rendered = CASES["glaze"].render(number, 160, 90)
        cv2.imwrite(str(folder / "plate" / f"{number:03d}.png"), rendered.plate[..., ::-1])
        if number == 0:
            cv2.imwrite(str(folder / "key.png"), rendered.truth[..., ::-1])
    return folder


@pytest.fixture
def runner(shot: Path, tmp_path: Path) -> Iterator[Runner]:
    folder = DataFolder(tmp_path)
    for path in (folder.cache, folder.results, folder.keyframes, folder.temporary):
        path.mkdir(parents=True)
    info = probe(str(shot / "plate"))
    with open_source(info) as source:
        keyframe = load_keyframe(shot / "key.png", 0, source.read(0), info)
    outputs.save_keyframe(folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
    with Runner(Store(folder), info, "draft", DraftParameters(), [KeyframeRef(0, keyframe.digest)]) as made:
        yield made


def until(runner: Runner, label: str) -> tuple[Stage, list[Stage]]:
    """Runs the stages up to one, alone each; returns that and those after it."""
    place = next(index for index, stage in enumerate(runner.stages) if stage.label == label)
    for stage in runner.stages[:place]:
        runner.run(stage)
    return runner.stages[place], runner.stages[place + 1 :]


def test_beside_a_stage_the_next_one_that_has_its_inputs_is_run(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, later = until(runner, "result 1-7")
    begun, flow, result = threading.Event(), draft.flow, draft.result

    def flowed(context: Any, stage: Stage) -> Any:
        begun.set()
        return flow(context, stage)

    def patient(context: Any, stage: Stage) -> Any:
        assert begun.wait(PATIENCE), "nothing ran beside it"
        return result(context, stage)

    monkeypatch.setattr(draft, "flow", flowed)
    monkeypatch.setattr(draft, "result", patient)
    report = runner.run(asked, later)
    assert [number for number, _ in report.frames] == list(range(1, 8))


def test_what_ran_beside_is_not_run_again_and_reported_when_it_is_asked_for(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = runner._run
    monkeypatch.setattr(runner, "_run", lambda stage: (ran.append(stage.label), run(stage))[1])
    for number, stage in enumerate(runner.stages, start=1):
        assert runner.run(stage, runner.stages[number:]).seconds > 0
    assert sorted(ran) == sorted(stage.label for stage in runner.stages)


def test_an_error_of_a_stage_that_ran_beside_is_raised_when_it_is_asked_for(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, later = until(runner, "result 1-7")

    def broken(context: Any, stage: Stage) -> Any:
        raise ValueError(stage.label)

    monkeypatch.setattr(draft, "flow", broken)
    runner.run(asked, later)
    with pytest.raises(ValueError, match="flow 8-15"):
        runner.run(later[0], later[1:])


def test_what_failed_beside_is_told_once_and_then_tried_again(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, later = until(runner, "result 1-7")
    flow, ran = draft.flow, threading.Event()

    def broken_once(context: Any, stage: Stage) -> Any:
        if not ran.is_set():
            ran.set()
            raise PaintoverError(Code.UNAVAILABLE, "The server of the plates does not answer.")
        return flow(context, stage)

    monkeypatch.setattr(draft, "flow", broken_once)
    runner.run(asked, later)
    assert ran.wait(PATIENCE)
    with pytest.raises(PaintoverError, match="does not answer"):
        runner.run(later[0], later[1:])
    assert runner.run(later[0], later[1:]).seconds > 0


def test_closing_ends_what_still_runs_beside(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, later = until(runner, "result 1-7")
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

    monkeypatch.setattr(draft, "flow", endless)
    runner.run(asked, later)
    assert begun.wait(PATIENCE) and not ended.is_set()
    runner.close()
    assert ended.is_set()
    assert not runner.store.has(later[0].key, later[0].publishes)
