"""The effect's list of keyframes, and what is checked before anything is sent."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from paintover_bridge.client import Client

from tests.conftest import SmallShot
from tests.plugin_ofx.conftest import MakeHost, Painted, wait_for
from tests.plugin_ofx.ofx_host import OK, Pixels, Quirks, Source
from tests.plugin_ofx.test_effects import painting, propagate, source_of


def frames_of(client: Client, job: str) -> list[int]:
    return [int(name.split("/")[-1].split("-")[0]) for name in client.get_job(job).spec.keyframes]


def test_keyframes_are_listed_corrected_and_removed(
    make_host: MakeHost, client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    host = make_host()
    effect = host.create({"sourcePath": str(small_shot.source)}, source_of(small_shot))
    effect.edit("keyframePath", str(small_shot.keyframe))
    effect.edit("keyframeFrame", 9)  # mistyped
    propagate(effect, client)
    effect.edit("keyframeFrame", small_shot.key)
    job = propagate(effect, client)
    assert frames_of(client, job) == [small_shot.key]  # the picture has moved, and is not a second keyframe
    effect.edit("keyframePath", str(painting(small_shot, tmp_path / "second.png", (10, 200, 10), 10)))
    effect.edit("keyframeFrame", 10)
    assert frames_of(client, propagate(effect, client)) == [4, 10]
    assert effect.params["keyframeList"].value == "4: keyframe.png\n10: second.png"

    effect.edit("previousKeyframe", time=10.0)
    assert host.goes_to == [4.0]
    assert effect.params["keyframeFrame"].value == 4
    effect.edit("nextKeyframe", time=10.0)
    assert "no keyframe after frame 10" in effect.status
    effect.edit("removeKeyframe", time=10.0)
    assert effect.params["keyframeList"].value == "4: keyframe.png"
    assert frames_of(client, propagate(effect, client)) == [4]


@pytest.mark.parametrize("sent", [True, False])
def test_propagate_checks_before_it_sends(
    make_host: MakeHost, client: Client, small_shot: SmallShot, tmp_path: Path, sent: bool
) -> None:
    host = make_host()
    if not sent:
        client.create_shot(small_shot.source)
    effect = host.create({} if sent else {"sourcePath": str(small_shot.source)}, source_of(small_shot))
    wait_for(lambda: effect.edit("refresh") == OK and "Looking for" not in effect.status)
    effect.edit("propagate")
    assert "no keyframe" in effect.status
    wrong = tmp_path / "wrong.png"
    cv2.imwrite(str(wrong), np.zeros((50, 50, 3), np.uint8))
    for path, frame, complaint in (
        ("/none.png", 4, "/none.png does not exist"),
        (str(small_shot.keyframe), 99, "frame 99, which is not in the shot (0 to 11)"),
        (str(wrong), 4, "is 50x50 but the shot is 96x64"),
    ):
        effect.set("keyframePath", path)
        effect.set("keyframeFrame", frame)
        effect.edit("propagate")
        if not sent and "Looking" in effect.status:
            wait_for(lambda: effect.edit("propagate") == OK and "Looking" not in effect.status)
        assert complaint in effect.status
        effect.edit("removeKeyframe", time=float(frame))
    effect.set("keyframePath", str(small_shot.keyframe))
    effect.set("keyframeFrame", 4)
    effect.set("sourceRange", "eleven")
    effect.edit("propagate")
    assert "'eleven' is not two ascending numbers" in effect.status
    assert not host.progress  # nothing was sent
    assert not client.list_jobs()


def counting(source: Source) -> tuple[Source, list[float]]:
    asked: list[float] = []

    def frame(time: float) -> Pixels | None:
        asked.append(time)
        return source(time)

    return frame, asked


def uploaded(client: Client) -> dict[str, int]:
    """When each uploaded frame was written last, by name."""
    files = (client.endpoint.folder / "uploads").glob("*/*.safetensors")
    return {path.name: path.stat().st_mtime_ns for path in files}


def test_only_frames_that_changed_are_sent_again(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    plate = source_of(small_shot)
    changed: set[int] = set()

    def source(time: float) -> Pixels | None:
        found = plate(time)
        if found is not None and round(time) in changed:
            found[:8] = 255 - found[:8]
        return found

    values = {"keyframePath": str(small_shot.keyframe), "keyframeFrame": small_shot.key}
    effect = make_host().create(values, source)
    propagate(effect, client)
    before = uploaded(client)
    assert len(before) == small_shot.count
    effect.edit("draft_softness", 2.0)
    propagate(effect, client)
    assert uploaded(client) == before
    changed.add(7)
    effect.edit("draft_softness", 3.0)
    propagate(effect, client)
    after = uploaded(client)
    assert {name for name in after if after[name] != before[name]} == {"00000007.safetensors"}


def test_host_without_other_times_plays_the_clip_once(
    make_host: MakeHost, client: Client, small_shot: SmallShot
) -> None:
    effect = make_host(other_times="ignored").create(
        {"keyframePath": str(small_shot.keyframe), "keyframeFrame": small_shot.key}, source_of(small_shot)
    )
    effect.edit("propagate")
    for number in range(small_shot.count):
        assert effect.render(float(number), interactive=True)[0] == OK
    wait_for(lambda: len(client.list_jobs()) == 1)
    assert client.wait_until_finished(client.list_jobs()[0].name, 60)
    effect.edit("draft_softness", 2.0, time=11.0)
    effect.render(11.0, interactive=True)
    effect.edit("propagate", time=11.0)
    wait_for(lambda: len(client.list_jobs()) == 2)


def test_float_frames_are_sent_as_half(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    host = make_host(depth="float")
    assert host.quirks == Quirks(depth="float")
    plate = Painted(small_shot, "", "", client).plate("float")
    values = {"keyframePath": str(small_shot.keyframe), "keyframeFrame": small_shot.key}
    effect = host.create(values, plate)
    job = propagate(effect, client)
    assert client.get_shot(client.get_job(job).spec.shot).format == "frames half"


def test_suggested_frame_is_gone_to(
    make_host: MakeHost, client: Client, small_shot: SmallShot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAINTOVER_OPEN", f'"{sys.executable}" -c pass')
    host = make_host()
    values = {"sourcePath": str(small_shot.source), "keyframePath": str(small_shot.keyframe), "keyframeFrame": 4}
    effect = host.create(values, source_of(small_shot))
    job = propagate(effect, client)
    suggested = list(client.get_job(job).suggested_keyframes)
    effect.edit("paintSuggested")
    assert host.goes_to == [float(frame) for frame in suggested[:1]]


def test_model_reaches_the_job(slow_methods: None, make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    """Of a method that has one: the slow ones of tests stand in for it."""
    values = {"sourcePath": str(small_shot.source), "keyframePath": str(small_shot.keyframe), "keyframeFrame": 4}
    first = make_host().create({**values, "model": "small-svd"}, source_of(small_shot))
    for method, refusal in (("draft", "uses no model"), ("best", "name that instead of 'best'")):
        first.edit("method", method)
        first.edit("propagate")  # neither takes one: the engine says so
        wait_for(lambda refusal=refusal: first.edit("refresh") == OK and refusal in first.status)
    choice = {"method": "slow_final", "model": "small-svd", "slow_final_seconds": 0.0}
    effect = make_host().create({**values, **choice}, source_of(small_shot))
    job = client.get_job(propagate(effect, client))
    assert (job.spec.method, job.spec.model) == ("slow_final", "small-svd")


@pytest.fixture
def slow_best(slow_methods: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons that start from here on find another method than the draft to be the best."""
    monkeypatch.setenv("SLOW_BEST", "slow_final")


def test_best_method_is_carried_behind_a_draft(
    slow_best: None, make_host: MakeHost, client: Client, small_shot: SmallShot, data_dir: Path
) -> None:
    make_host().create({"sourcePath": str(small_shot.source)}, source_of(small_shot)).render(4.0, interactive=True)
    wait_for((data_dir / "openfx-methods.bin").exists)  # the next session knows this engine's methods
    values = {"sourcePath": str(small_shot.source), "keyframePath": str(small_shot.keyframe), "keyframeFrame": 4}
    values |= {"draft_mode": "paint", "slow_final_seconds": 0.2}
    effect = make_host().create(values, source_of(small_shot))
    effect.edit("propagate")
    wait_for(lambda: len(client.list_jobs()) == 2)
    draft, final = sorted((job.spec for job in client.list_jobs()), key=lambda spec: spec.method)
    assert (draft.method, draft.model, draft.parameters["mode"]) == ("draft", "", "paint")
    assert (final.method, final.model, final.parameters["seconds"]) == ("slow_final", "small-svd", "0.2")
    assert draft.owner == final.owner
    why = "Carried by the method slow_final with small-svd, on a GPU of tests."
    wait_for(lambda: effect.edit("refresh") == OK and effect.status.endswith(why))
    wait_for(lambda: effect.edit("refresh") == OK and "(slow_final) is done: 12 of 12 frames." in effect.status)
    shown = effect.render(6.0)[1]
    for quality in ("Final only", "Best so far"):
        effect.edit("quality", quality)
        assert np.array_equal(effect.render(6.0)[1], shown)
    effect.edit("quality", "Draft only")
    assert not np.array_equal(effect.render(6.0)[1], shown)


def test_painting_that_was_saved_since_is_said(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    values = {"sourcePath": str(small_shot.source), "keyframePath": str(small_shot.keyframe), "keyframeFrame": 4}
    effect = make_host().create(values, source_of(small_shot))
    propagate(effect, client)
    wait_for(lambda: effect.edit("refresh") == OK and "is done: 12 of 12 frames." in effect.status)
    assert "otherwise" not in effect.status
    painting(small_shot, small_shot.keyframe, (200, 10, 10))
    effect.edit("refresh")
    assert effect.status.endswith("It is painted otherwise by now: press Propagate.")
    propagate(effect, client)
    wait_for(lambda: effect.edit("refresh") == OK and "otherwise" not in effect.status)
    effect.edit("keyframeFrame", 5)
    assert "otherwise" in effect.status


def test_only_the_drafts_frames_are_shown_to_compare(
    slow_methods: None, make_host: MakeHost, client: Client, small_shot: SmallShot
) -> None:
    first = make_host().create({"sourcePath": str(small_shot.source)}, source_of(small_shot))
    first.render(4.0, interactive=True)
    shot = client.create_shot(small_shot.source).name
    client.put_keyframe(shot, small_shot.key, small_shot.keyframe)
    jobs = [client.create_job(shot, method="draft")]
    jobs += [client.create_job(shot, method="slow_final", model="small-svd", parameters={"seconds": "0"})]
    assert all(client.wait_until_finished(job.name, 60) for job in jobs)
    draft, final = (Painted(small_shot, job.name, "", client).result("byte", 6)[..., :3] for job in jobs)
    assert not np.array_equal(draft, final)
    values = {"sourcePath": str(small_shot.source), "method": "slow_final"}
    effect = make_host().create(values, source_of(small_shot))
    for quality, wanted in (("Best so far", final), ("Final only", final), ("Draft only", draft)):
        effect.edit("quality", quality)
        wait_for(lambda wanted=wanted: np.array_equal(effect.render(6.0)[1][..., :3], wanted))
