"""Whose picture it is: several effects on one clip, copies, other clips, a project that is opened again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from paintover.v1 import job_pb2
from paintover_bridge import daemon
from paintover_bridge.client import Client

from tests.conftest import SmallShot, make_small_shot
from tests.plugin_ofx.conftest import MakeHost, Painted, wait_for
from tests.plugin_ofx.ofx_host import FAILED, OK, Effect, Pixels, Source


def source_of(shot: SmallShot) -> Source:
    """The shot's plates as a host's RGBA images."""

    def frame(time: float) -> Pixels | None:
        if not 0 <= round(time) < shot.count:
            return None
        rgb = cv2.cvtColor(shot.plate(round(time)), cv2.COLOR_BGR2RGB)
        return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])

    return frame


def painting(shot: SmallShot, path: Path, colour: tuple[int, int, int], frame: int = 4) -> Path:
    """A disc of a colour (BGR) painted on a frame of the shot."""
    picture = shot.plate(frame)
    cv2.circle(picture, (48, 32), 12, colour, -1, cv2.LINE_AA)
    cv2.imwrite(str(path), picture)
    return path


def propagate(effect: Effect, client: Client) -> str:
    """Presses Propagate and waits for the job; its name."""
    before = {job.name for job in client.list_jobs()}
    effect.edit("propagate")
    wait_for(lambda: "try again" not in effect.status or effect.edit("propagate") != OK)  # a loaded machine
    wait_for(lambda: {job.name for job in client.list_jobs()} - before or effect.edit("refresh") != OK)
    (job,) = {job.name for job in client.list_jobs()} - before
    assert client.wait_until_finished(job, 60)
    return job


def shown(effect: Effect, shot: SmallShot, job: str, client: Client, frame: int = 6) -> bool:
    """Whether the effect shows that job's frame."""
    status, picture = effect.render(float(frame))
    wanted = Painted(shot, job, "", client).result("byte", frame)
    return status == OK and np.array_equal(picture[..., :3], wanted[..., :3])


@pytest.fixture
def no_editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The painting program is one that does nothing."""
    monkeypatch.setenv("PAINTOVER_OPEN", f'"{sys.executable}" -c pass')


def test_day_with_three_clips_and_five_effects(make_host: MakeHost, client: Client, tmp_path: Path) -> None:
    """Clip a: two effects by path and a copy of one of them; clips b and c: one each, whose frames are sent."""
    host = make_host()
    shots = {name: make_small_shot(tmp_path / name) for name in "abc"}
    colours = [(40, 40, 230), (230, 40, 40), (40, 230, 40), (10, 10, 10), (240, 240, 240)]
    pictures = [painting(shots[clip], tmp_path / f"{i}.png", colours[i]) for i, clip in enumerate("aaabc")]
    values = [{"keyframePath": str(picture), "keyframeFrame": 4} for picture in pictures]
    path = {"sourcePath": str(shots["a"].source)}
    effects = [host.create({**path, **values[i]}, source_of(shots["a"])) for i in range(2)]
    jobs = [propagate(effect, client) for effect in effects]
    effects.append(effects[1].copy())
    assert shown(effects[2], shots["a"], jobs[1], client)  # a copy shows its original's job until it has its own
    effects[2].edit("keyframePath", str(pictures[2]))
    jobs.append(propagate(effects[2], client))
    for i, clip in ((3, "b"), (4, "c")):
        effects.append(host.create(values[i], source_of(shots[clip])))
        jobs.append(propagate(effects[i], client))
    assert len(set(jobs)) == 5
    for effect, clip, job in zip(effects, "aaabc", jobs, strict=True):
        wait_for(lambda effect=effect, clip=clip, job=job: shown(effect, shots[clip], job, client))
    for job in jobs:
        assert [key.split("/")[-1].split("-")[0] for key in client.get_job(job).spec.keyframes] == ["4"]


def test_script_and_effect_show_each_others_jobs(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    """A job that a script made of the clip shows in an effect on it, but never one of another effect's."""
    host = make_host()
    values = {"sourcePath": str(small_shot.source)}
    effect = host.create(values, source_of(small_shot))
    shot = client.create_shot(small_shot.source)
    client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
    script = client.create_job(shot.name).name
    assert client.wait_until_finished(script, 60)
    wait_for(lambda: shown(effect, small_shot, script, client))
    other = host.create({**values, "draft_mode": "paint"}, source_of(small_shot))
    own = propagate(other, client)
    assert own in {job.name for job in client.list_jobs()} and client.get_job(own).spec.shot == shot.name
    wait_for(lambda: shown(other, small_shot, own, client))
    assert shown(effect, small_shot, script, client)


def test_script_carries_what_an_effect_painted(
    make_host: MakeHost, client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    """A script propagates a part of the source, whose range makes it another shot, and gives no painting."""
    output = tmp_path / "out.mkv"
    given = ["propagate", str(small_shot.source), "--range=2-9", "-o", str(output)]
    command = [sys.executable, "-m", "paintover_bridge", *given]
    nothing = subprocess.run(command, capture_output=True, text=True)
    assert nothing.returncode != 0
    assert nothing.stderr.strip().endswith("yet; give a painted frame with --keyframe.")
    values = {"sourcePath": str(small_shot.source), "keyframePath": str(small_shot.keyframe), "keyframeFrame": 4}
    effect = make_host().create(values, source_of(small_shot))
    own = propagate(effect, client)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert output.is_file()
    (script,) = (job for job in client.list_jobs() if job.name != own)
    assert [name.split("/")[-1] for name in script.spec.keyframes] == [
        name.split("/")[-1] for name in client.get_job(own).spec.keyframes
    ]


@pytest.mark.parametrize("spelling", ["%05d.png", "#####.png"])
def test_source_spelt_otherwise_is_the_same(
    make_host: MakeHost, client: Client, small_shot: SmallShot, spelling: str
) -> None:
    """Nuke and the scripts write %05d, others #####; Resolve names a sequence by its range."""
    shot = client.create_shot(str(small_shot.source / "%05d.png"))
    client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
    script = client.create_job(shot.name).name
    assert client.wait_until_finished(script, 60)
    host = make_host()
    effect = host.create({"sourcePath": str(small_shot.source / spelling)}, source_of(small_shot))
    wait_for(lambda: shown(effect, small_shot, script, client))
    effect = host.create({}, source_of(small_shot))
    named = str(small_shot.source / "[00000-00011].png")
    effect.properties.values["OfxImageEffectPropSrcFilePath"] = [named]
    wait_for(lambda: shown(effect, small_shot, script, client))


@pytest.mark.usefixtures("no_editor")
def test_each_effect_paints_on_a_file_of_its_own(make_host: MakeHost, data_dir: Path, tmp_path: Path) -> None:
    host = make_host()
    shots = [make_small_shot(tmp_path / name / "seq") for name in "ab"]
    values: list[dict[str, object]] = [
        {},
        {},
        {"sourcePath": str(shots[0].source / "%05d.png")},
        {"sourcePath": str(shots[1].source / "%05d.png")},
    ]
    effects = [host.create(own, source_of(shots[i % 2])) for i, own in enumerate(values)]
    effects.append(effects[0].copy())
    for effect in effects:
        effect.edit("paint", time=4.0)
    effects.append(effects[0].copy())  # of one that has painted
    effects[-1].edit("paint", time=4.0)
    paths = [Path(effect.params["keyframePath"].value) for effect in effects]
    assert len(set(paths)) == len(effects)
    assert all(path.is_file() and data_dir in path.parents for path in paths)
    assert not np.array_equal(cv2.imread(str(paths[0])), cv2.imread(str(paths[1]))) or np.array_equal(
        shots[0].plate(4), shots[1].plate(4)
    )


@pytest.mark.usefixtures("no_editor")
@pytest.mark.parametrize("pressed", [0, 1])
def test_copy_pressed_first_next_day_keeps_to_its_own(
    make_host: MakeHost, data_dir: Path, small_shot: SmallShot, pressed: int
) -> None:
    """Of two effects with one id the host tells no original: whichever acts first takes copies of the paintings."""
    effect = make_host().create({}, source_of(small_shot))
    effect.edit("paint", time=4.0)
    painted = Path(effect.params["keyframePath"].value)
    painted.write_bytes(b"a day's work")
    project = effect.saved()
    effect.destroy()
    host = make_host()
    effects = [host.create(project, source_of(small_shot)) for _ in range(2)]
    effects[pressed].edit("paint", time=4.0)
    effects[1 - pressed].edit("paint", time=4.0)
    first, second = (Path(effects[i].params["keyframePath"].value) for i in (pressed, 1 - pressed))
    assert first != second == painted
    assert first.read_bytes() == second.read_bytes() == b"a day's work"
    assert str(first) in effects[pressed].params["keyframes"].value
    assert str(painted) not in effects[pressed].params["keyframes"].value


@pytest.mark.usefixtures("no_editor")
def test_copy_on_another_clip_starts_without_keyframes(
    make_host: MakeHost, client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    host = make_host()
    values = {"keyframePath": str(small_shot.keyframe), "keyframeFrame": small_shot.key}
    effect = host.create(values, source_of(small_shot))
    effect.properties.values["OfxImageEffectPropSrcFilePath"] = ["/media/first.mov"]
    propagate(effect, client)
    copy = effect.copy()
    copy.properties.values["OfxImageEffectPropSrcFilePath"] = ["/media/second.mov"]
    assert copy.render(4.0)[0] == FAILED
    copy.edit("propagate")
    assert "copied from another clip" in copy.status
    assert len(client.list_jobs()) == 1
    copy.edit("propagate")
    assert "no keyframe" in copy.status
    copy.edit("paint", time=2.0)
    assert copy.params["keyframeList"].value.startswith("2: ")
    assert effect.params["keyframeList"].value == f"{small_shot.key}: keyframe.png"


def stop(client: Client) -> None:
    endpoint = daemon.read_endpoint(client.endpoint.folder)
    assert endpoint
    client.stop_engine(when_idle=False)
    assert daemon.wait_until_gone(endpoint, 20)


def test_project_opened_next_day_renders_right_frames_or_fails(
    make_host: MakeHost, client: Client, small_shot: SmallShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = source_of(small_shot)
    values = {
        "sourcePath": str(small_shot.source),
        "keyframePath": str(small_shot.keyframe),
        "keyframeFrame": small_shot.key,
    }
    effect = make_host().create(values, plate)
    job = propagate(effect, client)
    wait_for(lambda: shown(effect, small_shot, job, client))
    effect.edit("refresh")
    project = effect.saved()
    wanted = Painted(small_shot, job, "", client).result("byte", 6)[..., :3]
    stop(client)

    opened = make_host().create(project, plate)
    assert opened.begin(0, 11) == OK
    status, picture = opened.render(6.0)
    assert status == FAILED and "not installed" in opened.message
    assert np.array_equal(picture, plate(6))
    assert opened.render(6.0, interactive=True)[0] == OK

    cold = make_host()
    monkeypatch.setenv("PAINTOVER_ENGINE", f'"{sys.executable}" -m paintover_engine.service')
    opened = cold.create(project, plate)
    assert opened.begin(0, 11) == OK
    status, picture = opened.render(6.0)
    assert status == OK and not opened.message
    assert np.array_equal(picture[..., :3], wanted)
    assert opened.params["keyframeList"].value == f"{small_shot.key}: keyframe.png"


def test_refresh_renews_what_was_rendered_without_an_engine(
    make_host: MakeHost, painted: Painted, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = painted.plate("byte")
    first = make_host().create({"job": painted.job}, plate)
    wait_for(lambda: np.array_equal(first.render(4.0)[1], painted.result("byte", 4)))
    first.edit("refresh")
    project, wanted = first.saved(), painted.result("byte", 4)
    assert project["revision"] > 0
    stop(painted.client)
    effect = make_host().create(project, plate)
    assert np.array_equal(effect.render(4.0, interactive=True)[1], plate(4))  # the host caches it at this revision
    effect.edit("refresh")
    cached_at = effect.params["revision"].value
    daemon.start(painted.client.endpoint.folder, ephemeral=False)
    wait_for(lambda: effect.edit("refresh") == OK and "is done" in effect.status)
    effect.edit("refresh")
    assert effect.params["revision"].value > cached_at
    assert np.array_equal(effect.render(4.0)[1], wanted)


@pytest.mark.parametrize("missing", ["Wait", "Fail"])
def test_final_render_waits_for_an_engine_that_starts_late(
    make_host: MakeHost, painted: Painted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """It used to deliver plates after 3 s."""
    plate, wanted = painted.plate("byte"), painted.result("byte", 4)
    stop(painted.client)
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import runpy, time\ntime.sleep(4)\nrunpy.run_module('paintover_engine.service', run_name='__main__')"
    )
    host = make_host()
    monkeypatch.setenv("PAINTOVER_ENGINE", f'"{sys.executable}" "{slow}"')
    effect = host.create({"job": painted.job, "missing": missing}, plate)
    assert effect.begin(0, 11) == OK
    assert host.progress, "no progress bar was shown"
    status, picture = effect.render(4.0)
    assert (status, effect.message) == (OK, "") and np.array_equal(picture, wanted)


def test_waiting_for_an_engine_can_be_cancelled(
    make_host: MakeHost, painted: Painted, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(painted.client)
    host = make_host()
    monkeypatch.setenv("PAINTOVER_ENGINE", f'"{sys.executable}" -c "import time; time.sleep(60)"')
    host.cancel_at = 1e-6
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    assert effect.begin(0, 11) == FAILED
    host.aborts = True
    assert effect.render(4.0)[0] == FAILED


def test_final_render_never_shows_an_older_edit(
    slow_methods: None, make_host: MakeHost, client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    """Interactive renders show the earlier job until the newest has the frame; final ones wait, or fail."""
    values = {"sourcePath": str(small_shot.source), "keyframePath": str(small_shot.keyframe), "keyframeFrame": 4}
    effect = make_host().create({**values, "waitSeconds": 1.0}, source_of(small_shot))
    first = propagate(effect, client)
    wait_for(lambda: shown(effect, small_shot, first, client))
    hold_the_queue(client, small_shot)
    before = {job.name for job in client.list_jobs()}
    effect.edit("keyframePath", str(painting(small_shot, tmp_path / "blue.png", (230, 40, 40))))
    effect.edit("propagate")
    wait_for(lambda: {job.name for job in client.list_jobs()} - before)
    (second,) = {job.name for job in client.list_jobs()} - before
    older = Painted(small_shot, first, "", client).result("byte", 6)[..., :3]

    def check(reason: str) -> None:
        wait_for(lambda: effect.render(6.0)[0] == FAILED and reason in effect.message)
        assert np.array_equal(effect.render(6.0)[1], source_of(small_shot)(6))
        assert np.array_equal(effect.render(6.0, interactive=True)[1][..., :3], older)

    check("Frame 6 is not made yet")
    client.cancel_job(second)
    check("was cancelled")


def hold_the_queue(client: Client, shot: SmallShot) -> None:
    """Nothing that is propagated from here on gets its turn."""
    name = client.create_shot(shot.source).name
    client.put_keyframe(name, shot.key, shot.keyframe)
    job = client.create_job(name, method="slow-draft", parameters={"seconds": "60", "stages": "9"}, priority=100)
    wait_for(lambda: client.get_job(job.name).state == job_pb2.JOB_STATE_RUNNING)


def test_cancel_right_after_propagate(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    values = {"sourcePath": str(small_shot.source), "keyframePath": str(small_shot.keyframe), "keyframeFrame": 4}
    effect = make_host().create(values, source_of(small_shot))
    effect.edit("refresh")
    endpoint = client.endpoint
    wait_for(lambda: effect.edit("refresh") == OK and "Nothing has been" in effect.status)
    os.kill(endpoint.pid, signal.SIGSTOP)
    try:
        effect.edit("propagate")
        effect.edit("cancel")
        assert effect.status == "Cancelling."
    finally:
        os.kill(endpoint.pid, signal.SIGCONT)
    wait_for(lambda: effect.edit("refresh") == OK and "ancelled" in effect.status)
    assert all(client.wait_until_finished(job.name, 60) for job in client.list_jobs())
    assert all(job.state == job_pb2.JOB_STATE_CANCELLED for job in client.list_jobs())
