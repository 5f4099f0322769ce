"""The effect in a host that has, one after the other, every quirk that real hosts were seen to have."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from paintover_bridge import daemon
from paintover_bridge.client import Client

from tests.conftest import SmallShot
from tests.hosts.conftest import MakeHost, Painted
from tests.hosts.ofx_host import DEPTHS, FAILED, OK, Effect, Properties

GENERAL = "OfxImageEffectContextGeneral"


def grey(_time: float) -> np.ndarray:
    return np.full((8, 10, 4), 77, np.uint8)


def wait_for(condition: object, seconds: float = 20.0) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


# What the host is told.


def test_the_library_holds_one_effect(make_host: MakeHost) -> None:
    host = make_host()
    assert host._library.OfxGetNumberOfPlugins() == 1
    assert not host._library.OfxGetPlugin(1)
    assert host.plugin.identifier == b"org.paintover.Paintover"


@pytest.mark.parametrize("context", ["OfxImageEffectContextFilter", GENERAL])
def test_clips_and_parameters_are_described_once_each_with_ranges(make_host: MakeHost, context: str) -> None:
    effect = make_host(context=context).describe()
    assert set(effect.clips) == {"Source", "Output", *(["Matte"] if context == GENERAL else [])}
    assert len(effect.defined) == len(set(effect.defined))
    for param in effect.params.values():
        if param.kind in ("OfxParamTypeInteger", "OfxParamTypeDouble"):
            limits = {f"OfxParamProp{name}" for name in ("Min", "Max", "DisplayMin", "DisplayMax", "Default")}
            assert limits <= set(param.properties.values), param.name
    groups = {name for name, param in effect.params.items() if param.kind == "OfxParamTypeGroup"}
    parents = {param.properties.values.get("OfxParamPropParent", [None])[0] for param in effect.params.values()}
    assert parents - {None} <= groups


def test_methods_of_the_first_session_are_the_engines(make_host: MakeHost, client: Client, data_dir: Path) -> None:
    assert not (data_dir / "openfx-methods.bin").exists()
    effect = make_host().describe()
    methods = {method.name: method for method in client.list_methods()}
    assert effect.params["method"].properties.values["OfxParamPropChoiceOption"] == list(methods)
    for method in methods.values():
        for parameter in method.parameters:
            described = effect.params[f"{method.name}_{parameter.name}"].properties.values
            assert described.get("OfxParamPropChoiceOption", []) == list(parameter.choices)
            assert described["OfxPropLabel"][0].startswith(parameter.title)
            assert described["OfxParamPropHint"] == [parameter.help]
            if parameter.HasField("maximum"):
                assert described["OfxParamPropMax"] == [parameter.maximum]


def test_only_the_chosen_methods_parameters_are_shown(make_host: MakeHost, data_dir: Path) -> None:
    host = make_host()
    described = host.describe()
    assert not any(  # described as secret, Nuke never shows them
        param.properties.values.get("OfxParamPropSecret") for name, param in described.params.items() if "_" in name
    )
    effect = host.create({}, grey)

    def shown() -> set[str]:
        params = [param for name, param in effect.params.items() if "_" in name]
        secret = [param.properties.values.get("OfxParamPropSecret", [0])[0] for param in params]
        return {param.name.split("_")[0] for param, hidden in zip(params, secret, strict=True) if not hidden}

    assert shown() == {"draft"}
    effect.edit("method", "videoshop")
    assert shown() == {"videoshop"}
    effect.edit("method", "draft")
    assert shown() == {"draft"}


def test_methods_of_a_newer_engine_are_described_from_then_on(
    make_host: MakeHost, painted: Painted, data_dir: Path
) -> None:
    first = make_host()
    assert first.create({"job": painted.job}, painted.plate("byte")).render(0.0)[0] == OK
    stored = data_dir / "openfx-methods.bin"
    stored.write_bytes(stored.read_bytes().replace(b"draft", b"drawn"))
    effect = make_host().describe()
    assert effect.params["method"].properties.values["OfxParamPropChoiceOption"][0] == "drawn"


@pytest.mark.parametrize("suite", ["OfxPropertySuite", "OfxImageEffectSuite", "OfxParameterSuite"])
def test_a_host_without_a_needed_suite_is_told_so(make_host: MakeHost, suite: str) -> None:
    assert make_host(missing_suites=frozenset([suite])).load() != OK


def test_loading_describing_and_unloading_from_many_threads_is_safe(make_host: MakeHost) -> None:
    host = make_host()
    trouble = []

    def cycle() -> None:
        try:
            for _ in range(20):
                own = Effect(host)
                assert host.load() == OK
                assert own.action("OfxActionDescribe") == OK
                context = Properties({"OfxImageEffectPropContext": ["OfxImageEffectContextFilter"]})
                assert own.action("OfxImageEffectActionDescribeInContext", context) == OK
                assert host.unload() == OK
        except AssertionError as error:
            trouble.append(error)

    threads = [threading.Thread(target=cycle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble


# Frames.


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    "quirks",
    [
        {},
        {"negative_rows": True, "padding": 12},
        {"origin": (-7, 13), "padding": 3},
        {"in_place": True},
        {"context": GENERAL},
        {"keeps_instance_data": False},
        {"missing_suites": frozenset(["OfxProgressSuite", "OfxTimeLineSuite"])},
        {"missing_functions": frozenset(["abort", "paramGetValueAtTime"])},
        {"absent": frozenset(["OfxImagePropRegionOfDefinition", "OfxImageEffectPropPreMultiplication"])},
    ],
    ids=lambda quirks: "-".join(quirks) or "plain",
)
def test_a_frame_is_the_engines_to_the_bit(
    make_host: MakeHost, painted: Painted, depth: str, quirks: dict[str, object]
) -> None:
    host = make_host(depth=depth, **quirks)
    effect = host.create({"job": painted.job}, painted.plate(depth))
    for number in (0, 4, 11):
        status, picture = effect.render(float(number))
        assert status == OK
        assert picture.tobytes() == painted.result(depth, number).tobytes()
    assert host.released == host.handed_out
    effect.destroy()


def test_a_shot_and_a_source_path_show_their_newest_job(make_host: MakeHost, painted: Painted) -> None:
    host = make_host()
    for values in (
        {"shot": painted.name},
        {"sourcePath": str(painted.shot.source)},
        {"job": painted.job.removeprefix("jobs/")},
    ):
        status, picture = host.create(values, painted.plate("byte")).render(5.0)
        assert status == OK
        assert np.array_equal(picture, painted.result("byte", 5)), values


def test_the_hosts_source_frame_and_the_offset_choose_the_frame(make_host: MakeHost, painted: Painted) -> None:
    plate = painted.plate("byte")
    effect = make_host().create({"job": painted.job, "sourceOffset": -100}, lambda time: plate(time - 100))
    status, picture = effect.render(103.0)
    assert status == OK and np.array_equal(picture, painted.result("byte", 3))
    effect = make_host().create({"job": painted.job}, lambda _time: plate(6))
    status, picture = effect.render(86406.0, extra={"OfxImageEffectPropSrcFrame": [6]})
    assert status == OK and np.array_equal(picture, painted.result("byte", 6))


def test_parts_of_a_frame_are_parts_of_the_whole(make_host: MakeHost, painted: Painted) -> None:
    effect = make_host(origin=(3, -5)).create({"job": painted.job}, painted.plate("byte"))
    whole = painted.result("byte", 4)
    height, width = whole.shape[:2]
    for x1, y1, x2, y2 in [(20, 10, 77, 50), (0, 0, 1, 1), (width - 1, 0, width, height), (40, 30, 41, 31)]:
        status, picture = effect.render(4.0, window=(x1 + 3, y1 - 5, x2 + 3, y2 - 5))
        part = np.s_[height - y2 : height - y1, x1:x2]
        assert status == OK and np.array_equal(picture[part], whole[part])


def test_one_instance_renders_on_many_threads(make_host: MakeHost, painted: Painted) -> None:
    host = make_host()
    source = painted.plate("byte")
    effect = host.create({"job": painted.job}, source)
    results: dict[int, tuple[int, np.ndarray]] = {}

    def work(numbers: list[int]) -> None:
        for number in numbers:
            results[number] = effect.render(float(number))

    threads = [threading.Thread(target=work, args=(list(range(start, 12, 4)),)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (status, picture) in results.items():
        assert status == OK and np.array_equal(picture, painted.result("byte", number))
    assert len(results) == 12


def test_the_views(make_host: MakeHost, painted: Painted) -> None:
    host = make_host()
    source = painted.plate("byte")
    plate, result = source(4), painted.result("byte", 4)
    assert plate is not None
    shown = {}
    for view in ("Plate", "Wipe", "Matte"):
        effect = host.create({"job": painted.job, "view": view, "wipe": 0.5}, source)
        assert effect.is_identity() == (view == "Plate")
        shown[view] = effect.render(4.0)[1]
    assert np.array_equal(shown["Plate"], plate)
    assert np.array_equal(shown["Wipe"][:, :48], result[:, :48])
    assert np.array_equal(shown["Wipe"][:, 48:], plate[:, 48:])
    changed = (result[..., :3] != plate[..., :3]).any(axis=2)
    assert (shown["Matte"][changed][:, 0] > 0).all() and (shown["Matte"][..., 3] == 255).all()
    assert not shown["Matte"][0, 0, :3].any()
    effect = host.create({"job": painted.job, "mix": 0.0}, source)
    assert effect.is_identity() and np.array_equal(effect.render(4.0)[1], plate)


def test_a_matte_input_holds_the_paint_out(make_host: MakeHost, painted: Painted) -> None:
    host = make_host(context=GENERAL)
    source = painted.plate("byte")

    def left_half(_time: float) -> np.ndarray:
        matte = np.zeros((64, 96, 1), np.uint8)
        matte[:, :48] = 255
        return matte

    picture = host.create({"job": painted.job}, source, left_half).render(4.0)[1]
    plate = source(4)
    assert plate is not None
    assert np.array_equal(picture[:, :48], painted.result("byte", 4)[:, :48])
    assert np.array_equal(picture[:, 48:], plate[:, 48:])


def test_a_proxy_shows_the_frame_scaled(make_host: MakeHost, painted: Painted) -> None:
    full = painted.plate("float")

    def half_size(time: float) -> np.ndarray | None:
        found = full(time)
        return None if found is None else cv2.resize(found, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)

    effect = make_host(depth="float").create({"job": painted.job}, half_size)
    status, picture = effect.render(4.0)
    wanted = cv2.resize(painted.result("float", 4), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    plate = half_size(4)
    assert status == OK
    assert np.abs(picture - wanted)[..., :3].mean() < 0.004
    assert np.array_equal(picture[:4], plate[:4])  # type: ignore[index]


# What is not there.


def test_frames_that_no_job_makes_show_the_plate_or_fail_as_chosen(make_host: MakeHost, painted: Painted) -> None:
    host = make_host()
    plate = painted.plate("byte")
    for missing, expected in (("Show the plate", OK), ("Wait", FAILED), ("Fail", FAILED)):
        effect = host.create({"job": painted.job, "missing": missing, "waitSeconds": 1.0, "sourceOffset": 1000}, plate)
        status, picture = effect.render(2.0)
        assert status == expected
        assert np.array_equal(picture, plate(2))
        assert effect.message == ("" if expected == OK else "Frame 1002 is not in the shot (0 to 11).")
        assert effect.render(2.0, interactive=True)[0] == OK


def test_without_an_engine_the_effect_is_the_identity_and_says_why(make_host: MakeHost, data_dir: Path) -> None:
    effect = make_host().create({"job": "1"}, grey)
    status, picture = effect.render(0.0, interactive=True)
    assert status == OK and np.array_equal(picture, grey(0))
    effect.edit("refresh")
    wait_for(lambda: effect.edit("refresh") == OK and "not running and not installed" in effect.status)
    assert str(data_dir) in effect.status
    effect.edit("propagate")
    assert "not installed" in effect.status


def test_host_without_string_parameters_still_has_the_effect(make_host: MakeHost) -> None:
    kinds = frozenset(["OfxParamTypeString", "OfxParamTypeGroup"])
    effect = make_host(refused_kinds=kinds).create({}, grey)
    assert "status" not in effect.params and "mix" in effect.params
    assert effect.is_identity()
    status, picture = effect.render(0.0)
    assert status == OK and np.array_equal(picture, grey(0))
    for button in ("paint", "propagate", "cancel", "refresh", "removeKeyframe", "nextKeyframe", "paintSuggested"):
        assert effect.edit(button) == OK


def test_host_that_has_no_more_than_the_standard_demands(make_host: MakeHost, painted: Painted) -> None:
    suites = ["OfxProgressSuite", "OfxTimeLineSuite", "OfxMessageSuite"]
    functions = ["abort", "paramGetValueAtTime", "clipGetRegionOfDefinition", "propReset", "propGetDimension"]
    properties = [
        "OfxPropName", "OfxImageEffectPropTemporalClipAccess", "OfxImageClipPropConnected",
        "OfxImageEffectPropFrameRate", "OfxImageEffectPropFrameRange", "OfxImagePropRegionOfDefinition",
        "OfxImageEffectPropPreMultiplication",
        "OfxImageEffectPropRenderScale", "OfxImagePropPixelAspectRatio", "OfxImageEffectPropInteractiveRenderStatus",
        "OfxPropIsInteractive",
    ]  # fmt: skip
    host = make_host(
        missing_suites=frozenset(suites), missing_functions=frozenset(functions), absent=frozenset(properties)
    )
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    assert effect.begin(0, 11) == OK
    assert np.array_equal(effect.render(4.0)[1], painted.result("byte", 4))
    for button in ("cancel", "refresh", "nextKeyframe", "paintSuggested"):
        assert effect.edit(button) == OK
    assert effect.region(4.0) is None


def test_an_effect_that_is_not_used_never_touches_an_engine(make_host: MakeHost, data_dir: Path) -> None:
    effect = make_host().create({}, grey)
    assert effect.is_identity()
    status, picture = effect.render(0.0)
    assert status == OK and np.array_equal(picture, grey(0))
    assert not data_dir.exists()


def test_no_source_or_an_impossible_picture_leave_nothing_as_it_was(make_host: MakeHost, painted: Painted) -> None:
    host = make_host(absent=frozenset(["OfxImageEffectPropPixelDepth"]))
    assert host.create({"job": painted.job}, grey).render(0.0)[0] == FAILED
    host = make_host()
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    good = effect.source
    calls = []

    def only_for_the_size(found: float) -> np.ndarray | None:
        calls.append(found)
        return good(found) if good and len(calls) == 1 else None

    effect.source = only_for_the_size
    status, picture = effect.render(3.0)
    assert not picture.any()
    assert status == OK


def test_an_effect_that_was_copied_to_another_clip_shows_nothing_of_the_first(
    make_host: MakeHost, painted: Painted
) -> None:
    host = make_host()
    plate = painted.plate("byte")
    effect = host.create({"job": painted.job, "boundTo": "/media/first.mov"}, plate)
    effect.properties.values["OfxImageEffectPropSrcFilePath"] = ["/media/second.mov"]
    status, picture = effect.render(4.0)
    assert status == FAILED and np.array_equal(picture, plate(4))
    effect.edit("refresh")
    assert "another clip" in effect.status
    effect.properties.values["OfxImageEffectPropSrcFilePath"] = ["/media/first.mov"]
    assert np.array_equal(effect.render(4.0)[1], painted.result("byte", 4))


# An engine that comes and goes.


def seconds(work: object) -> float:
    started = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - started


def test_a_hung_engine_holds_up_no_button_and_no_interactive_render(make_host: MakeHost, painted: Painted) -> None:
    plate = painted.plate("byte")
    values = {"sourcePath": str(painted.shot.source), "missing": "Show the plate"}
    effect = make_host().create(values, plate)
    assert np.array_equal(effect.render(0.0)[1], painted.result("byte", 0))
    wanted = painted.result("byte", 7)
    endpoint = daemon.read_endpoint(painted.client.endpoint.folder)
    assert endpoint
    os.kill(endpoint.pid, signal.SIGSTOP)
    try:
        for button in ("propagate", "cancel", "refresh", "monitor"):
            assert seconds(lambda button=button: effect.edit(button)) < 0.25, button
        for number in (5, 6, 7):
            assert seconds(lambda number=number: effect.render(float(number), interactive=True)) < 0.25
        assert np.array_equal(effect.render(8.0)[1], plate(8))
    finally:
        os.kill(endpoint.pid, signal.SIGCONT)
    wait_for(lambda: np.array_equal(effect.render(7.0)[1], wanted))


def test_an_engine_that_is_killed_and_started_again_is_found_again(make_host: MakeHost, painted: Painted) -> None:
    plate = painted.plate("byte")
    effect = make_host().create({"job": painted.job, "missing": "Show the plate"}, plate)
    wanted = [painted.result("byte", number) for number in range(3)]
    assert np.array_equal(effect.render(0.0)[1], wanted[0])
    endpoint = daemon.read_endpoint(painted.client.endpoint.folder)
    assert endpoint
    os.kill(endpoint.pid, signal.SIGKILL)
    wait_for(lambda: daemon.read_endpoint(endpoint.folder) is None)
    status, picture = effect.render(1.0)
    assert status == OK
    assert np.array_equal(picture, plate(1)) or np.array_equal(picture, wanted[1])
    daemon.start(endpoint.folder, ephemeral=False)
    wait_for(lambda: np.array_equal(effect.render(2.0)[1], wanted[2]))


def test_an_engine_on_a_socket_file_is_found(make_host: MakeHost, painted: Painted, tmp_path: Path) -> None:
    endpoint = painted.client.endpoint
    wanted = painted.result("byte", 4)
    painted.client.stop_engine(when_idle=False)
    assert daemon.wait_until_gone(endpoint, 10)
    daemon.start(endpoint.folder, ephemeral=False, listen=f"unix:{tmp_path}/engine.sock")
    status, picture = make_host().create({"job": painted.job}, painted.plate("byte")).render(4.0)
    assert status == OK and np.array_equal(picture, wanted)


def test_an_engine_that_is_not_on_this_machine_sends_its_frames(make_host: MakeHost, painted: Painted) -> None:
    endpoint, wanted = painted.client.endpoint, painted.result("byte", 4)
    painted.client.stop_engine(when_idle=False)
    assert daemon.wait_until_gone(endpoint, 10)
    daemon.start(endpoint.folder, ephemeral=False, listen="127.0.0.1:0")
    said = endpoint.folder / "engine.json"
    true = said.read_text()
    assert "127.0.0.1:" in true
    said.write_text(true.replace("127.0.0.1:", "LOCALHOST:"))  # by another name: not known to be here
    try:
        status, picture = make_host().create({"job": painted.job}, painted.plate("byte")).render(4.0)
        assert status == OK and np.array_equal(picture, wanted)
    finally:
        said.write_text(true)


def test_an_installed_engine_is_started(make_host: MakeHost, painted: Painted, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = painted.client.endpoint.folder
    endpoint = daemon.read_endpoint(folder)
    wanted = painted.result("byte", 4)
    painted.client.stop_engine(when_idle=False)
    assert endpoint and daemon.wait_until_gone(endpoint, 10)
    host = make_host()
    monkeypatch.setenv("PAINTOVER_ENGINE", f'"{sys.executable}" -m paintover_engine.service')
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    wait_for(lambda: np.array_equal(effect.render(4.0)[1], wanted))


# The buttons.


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
        assert "render the clip once" in effect.status
        assert not effect.is_identity()
        for number in range(small_shot.count):
            status, picture = effect.render(float(number))
            assert status == OK and np.array_equal(picture, plate(number))
    wait_for(lambda: client.list_jobs() or effect.edit("refresh") != OK)
    assert client.list_jobs(), effect.status
    job = client.list_jobs()[0].name
    assert client.wait_until_finished(job, 60)
    painted = Painted(small_shot, job, "", client)
    wait_for(lambda: np.array_equal(effect.render(9.0)[1], painted.result(depth, 9)))
    copy = effect.copy()
    copy.edit("propagate")
    assert copy.params["effectId"].value != effect.params["effectId"].value


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


# Long runs.


def memory() -> int:
    """This process's resident bytes."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def test_ten_thousand_renders_leave_nothing_behind(make_host: MakeHost, painted: Painted) -> None:
    host = make_host()
    source = painted.plate("byte")
    plates = {number: source(number) for number in range(12)}
    effect = host.create({"job": painted.job}, lambda time: plates[int(time)])

    def renders(count: int) -> None:
        for number in range(count):
            if number % 10 == 0:
                effect.destroy()
                assert effect.action("OfxActionCreateInstance") == OK
            assert effect.render(float(number % 12))[0] == OK

    renders(500)
    files, before, held = len(list(Path("/proc/self/fd").iterdir())), memory(), len(host.objects)
    renders(10_000)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files + 2
    assert memory() - before < 16 << 20
    assert len(host.objects) <= held + 10


def test_values_that_no_host_should_hand_over_never_crash(make_host: MakeHost, painted: Painted) -> None:
    picked = random.Random(7)
    host = make_host()
    numbers = [0, -1, 1, 2**31 - 1, -(2**31), 7, 1000]
    reals = [0.0, -1.0, 1e300, -1e300, float("nan"), float("inf"), 0.5]
    texts = ["", "jobs/", "jobs/99999999999999999999", "ä" * 5000, "\x01", "1-", "shots/../x", painted.job]
    source = painted.plate("byte")
    for _ in range(300):
        effect = host.create({"job": painted.job, "waitSeconds": 0.2}, source)
        for param in effect.params.values():
            if picked.random() < 0.2 and param.name != "waitSeconds":
                kinds = {"OfxParamTypeString": texts, "OfxParamTypeDouble": reals}
                param.value = picked.choice(kinds.get(param.kind, numbers))
        extra = {
            name: [picked.choice(values)]
            for name, values in {
                "OfxPropTime": reals,
                "OfxImageEffectPropSrcFrame": numbers,
                "OfxImageEffectPropInteractiveRenderStatus": numbers,
                "OfxImageEffectPropRenderWindow": numbers,
                "OfxImageEffectPropRenderScale": reals,
            }.items()
            if picked.random() < 0.2
        }
        status, picture = effect.render(4.0, extra=extra)
        assert status in (OK, FAILED)
        assert picture.shape == (64, 96, 4)
        effect.is_identity(picked.choice(reals))
        effect.action("Nonsense")
        assert effect.destroy() == OK
    assert host.released == host.handed_out


def test_pictures_that_no_host_should_hand_over_are_refused(make_host: MakeHost, painted: Painted) -> None:
    picked = random.Random(11)
    host = make_host()
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    plain = effect.image
    bad = {
        "OfxImagePropBounds": [[0, 0, 0, 0], [0, 0, -5, 64], [2**31 - 1, 0, -(2**31), 64], [5], []],
        "OfxImagePropRegionOfDefinition": [[0, 0, 0, 0], [-(2**31), -(2**31), 2**31 - 1, 2**31 - 1], [9]],
        "OfxImagePropRowBytes": [[1], [-3], [383]],
        "OfxImageEffectPropPixelDepth": [["OfxBitDepthNone"], ["nonsense"], []],
        "OfxImageEffectPropComponents": [["OfxImageComponentRGB"], ["OfxImageComponentNone"], []],
        "OfxImagePropData": [[None], []],
    }

    def spoiled(clip: str, time: float) -> object:
        image = plain(clip, time)
        if image and (clip == spoil or spoil == "both"):
            image.properties.values[name] = value
        return image

    effect.image = spoiled  # type: ignore[method-assign,assignment]
    for name, values in bad.items():
        for value in values:
            spoil = picked.choice(["Source", "Output", "both"])
            status, _ = effect.render(4.0)
            assert status in (OK, FAILED), (name, value)


def test_a_host_that_makes_no_instance_data_and_ignores_failures(make_host: MakeHost, painted: Painted) -> None:
    host = make_host(keeps_instance_data=False)
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    assert effect.edit("refresh") in (OK, 14)
    assert np.array_equal(effect.render(4.0)[1], painted.result("byte", 4))
    assert effect.destroy() == OK
