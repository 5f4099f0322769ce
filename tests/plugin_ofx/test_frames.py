"""The frames of the effect in a host that has, one after the other, every quirk that real hosts were seen to have."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from tests.plugin_ofx.conftest import MakeHost, Painted
from tests.plugin_ofx.ofx_host import DEPTHS, OK

GENERAL = "OfxImageEffectContextGeneral"


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
