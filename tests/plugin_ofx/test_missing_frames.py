"""What is shown where there is no frame, no engine, no source, or little of a host."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.plugin_ofx.conftest import MakeHost, Painted, grey, wait_for
from tests.plugin_ofx.ofx_host import FAILED, OK


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
