"""The effect's buttons."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from paintover_bridge.client import Client

from tests.conftest import SmallShot
from tests.plugin_ofx.conftest import MakeHost, Painted, grey, seconds, wait_for
from tests.plugin_ofx.ofx_host import DEPTHS, FAILED, OK


def test_propagate_by_path_makes_the_job_and_shows_it(
    make_host: MakeHost, client: Client, small_shot: SmallShot
) -> None:
    def plate(time: float) -> np.ndarray:
        rgb = cv2.cvtColor(small_shot.plate(round(time)), cv2.COLOR_BGR2RGB)
        return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])

    effect = make_host().create(
        {
            "sourcePath": str(small_shot.source),
            "keyframePath": str(small_shot.keyframe),
            "keyframeFrame": small_shot.key,
            "draft_mode": "paint",
        },
        plate,
    )
    assert seconds(lambda: effect.edit("propagate")) < 0.25
    wait_for(lambda: [job.name for job in client.list_jobs()] == ["jobs/1"])
    assert client.get_job("jobs/1").spec.parameters["mode"] == "paint"
    assert client.wait_until_finished("jobs/1", 60)
    painted = Painted(small_shot, "jobs/1", "", client)
    wait_for(lambda: not np.array_equal(effect.render(8.0)[1], plate(8)))
    assert np.array_equal(effect.render(8.0)[1][..., :3], painted.result("byte", 8)[..., :3])
    before = effect.params["revision"].value
    wait_for(lambda: effect.edit("refresh") == OK and "is done: 12 of 12" in effect.status)
    assert effect.params["revision"].value > before
    written = len(effect.host.set_values)
    effect.edit("refresh")
    assert len(effect.host.set_values) == written  # nothing new, nothing set: no host renders for it
    assert not any(rendering for _, _, rendering in effect.host.set_values)


def test_propagate_says_what_is_wrong(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    effect = make_host().create({"sourcePath": str(small_shot.source), "keyframePath": "/none.png"}, grey)
    effect.edit("propagate")
    assert "/none.png does not exist" in effect.status
    effect.set("keyframePath", str(small_shot.keyframe))
    effect.set("keyframeFrame", 99)
    effect.edit("propagate")
    wait_for(lambda: effect.edit("refresh") == OK and "99" in effect.status)
    assert not client.list_jobs()


@pytest.mark.parametrize("other_times", ["given", "ignored"])
@pytest.mark.parametrize("depth", ["byte", "float"])
def test_a_clip_without_a_path_is_sent(
    make_host: MakeHost, client: Client, small_shot: SmallShot, other_times: str, depth: str
) -> None:
    host = make_host(depth=depth, other_times=other_times)
    plate = Painted(small_shot, "", "", client).plate(depth)
    effect = host.create({"keyframePath": str(small_shot.keyframe), "keyframeFrame": small_shot.key}, plate)
    effect.edit("propagate")
    if other_times == "ignored":
        assert "Play the clip once" in effect.status
        assert not effect.is_identity()
        for number in range(small_shot.count):
            final = number % 2 == 0
            status, picture = effect.render(float(number), interactive=not final)
            assert status == (FAILED if final else OK) and np.array_equal(picture, plate(number))
            assert ("only sent to the engine" in effect.message) == final
    wait_for(lambda: client.list_jobs() or effect.edit("refresh") != OK)
    assert client.list_jobs(), effect.status
    job = client.list_jobs()[0].name
    assert client.wait_until_finished(job, 60)
    painted = Painted(small_shot, job, "", client)
    wait_for(lambda: np.array_equal(effect.render(9.0)[1], painted.result(depth, 9)))
    copy = effect.copy()
    copy.edit("propagate")
    assert copy.params["effectId"].value != effect.params["effectId"].value


def test_a_clip_is_sent_to_an_engine_that_is_slow(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    plate = Painted(small_shot, "", "", client).plate("byte")
    host = make_host(other_times="ignored")
    effect = host.create({"keyframePath": str(small_shot.keyframe)}, plate)
    effect.edit("refresh")
    engine = client.get_engine().pid
    os.kill(engine, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (engine, signal.SIGCONT)).start()
    effect.edit("propagate")
    assert "Play the clip once" in effect.status
    assert host.progress


def test_sending_a_clip_can_be_cancelled(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    host = make_host()
    host.cancel_at = 0.4
    plate = Painted(small_shot, "", "", client).plate("byte")
    effect = host.create({"keyframePath": str(small_shot.keyframe)}, plate)
    effect.edit("propagate")
    assert effect.status == "Cancelled."
    assert 0.4 <= host.progress[-1] < 0.6
    assert not client.list_jobs()


def test_a_running_job_is_cancelled(make_host: MakeHost, painted: Painted) -> None:
    effect = make_host().create({"shot": painted.name}, painted.plate("byte"))
    effect.edit("refresh")
    effect.edit("cancel")
    assert effect.status == "There is nothing to cancel."


@pytest.mark.parametrize("depth", DEPTHS)
def test_paint_this_frame_writes_the_plate_and_opens_it(
    make_host: MakeHost, painted: Painted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: str
) -> None:
    seen = tmp_path / "opened"
    opener = tmp_path / "opener.py"
    opener.write_text(f"import sys; open({str(seen)!r}, 'w').write(sys.argv[1])")
    monkeypatch.setenv("PAINTOVER_OPEN", f'"{sys.executable}" "{opener}"')
    plate = painted.plate(depth)
    effect = make_host(depth=depth).create({"sourcePath": str(painted.shot.source)}, plate)
    effect.edit("paint", time=4.0)
    picture = Path(effect.params["keyframePath"].value)
    assert effect.params["keyframeFrame"].value == 4
    wait_for(lambda: seen.exists() and seen.read_text() == str(picture))
    written = cv2.cvtColor(cv2.imread(str(picture), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGR2RGB)
    wanted = plate(4)
    assert wanted is not None
    assert np.array_equal(written, wanted[..., :3])
    picture.write_bytes(b"painted")
    effect.edit("paint", time=4.0)
    assert picture.read_bytes() == b"painted"


def test_the_monitor_of_an_engine_without_one(make_host: MakeHost, painted: Painted) -> None:
    effect = make_host().create({"job": painted.job}, painted.plate("byte"))
    effect.edit("monitor")
    assert "no monitor" in effect.status


def test_resolve_is_told_to_render_anew_once(make_host: MakeHost, painted: Painted) -> None:
    host = make_host(name="DaVinciResolve")
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    for _ in range(30):
        effect.render(4.0)
        time.sleep(0.05)
    assert [name for name, _, rendering in host.set_values if rendering] == ["revision"]
