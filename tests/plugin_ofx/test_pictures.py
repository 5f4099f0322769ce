"""Where and how the paint is put: overscan, crops, proxies, RGB, regions."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.plugin_ofx.conftest import MakeHost, Painted, wait_for
from tests.plugin_ofx.ofx_host import OK, Pixels

WIDTH, HEIGHT = 96, 64


def test_overscan_keeps_the_paint_in_its_place(make_host: MakeHost, painted: Painted) -> None:
    """A region of definition around the project's format (it was stretched over it, 17 dB)."""
    plate, border = painted.plate("byte"), 10

    def overscan(time: float) -> Pixels | None:
        found = plate(time)
        return None if found is None else np.pad(found, ((6, 6), (border, border), (0, 0)), mode="edge")

    host = make_host(origin=(-border, -6), project=(WIDTH, HEIGHT))
    status, picture = host.create({"job": painted.job}, overscan).render(4.0)
    assert status == OK
    assert np.array_equal(picture[6:-6, border:-border], painted.result("byte", 4))
    outside = overscan(4)
    assert outside is not None
    outside[6:-6, border:-border] = picture[6:-6, border:-border]
    assert np.array_equal(picture, outside)


@pytest.mark.parametrize("aspect", [2.0, 0.9])
def test_pixels_that_are_not_square(make_host: MakeHost, painted: Painted, aspect: float) -> None:
    """The project's format is in square units: an anamorphic plate's is wider than its pixels are many."""
    plate, border = painted.plate("byte"), 10

    def overscan(time: float) -> Pixels | None:
        found = plate(time)
        return None if found is None else np.pad(found, ((0, 0), (border, border), (0, 0)), mode="edge")

    host = make_host(origin=(-border, 0), project=(WIDTH * aspect, HEIGHT), pixel_aspect=aspect)
    effect = host.create({"job": painted.job}, overscan)
    status, picture = effect.render(4.0)
    assert status == OK and np.array_equal(picture[:, border:-border], painted.result("byte", 4))
    assert effect.region(4.0) == pytest.approx([-border * aspect, 0, (WIDTH + border) * aspect, HEIGHT])


def test_cropped_plate_keeps_the_paint_in_its_place(make_host: MakeHost, painted: Painted) -> None:
    """A region of definition inside the project's format."""
    plate, result = painted.plate("byte"), painted.result("byte", 4)
    part = np.s_[8:56, 24:84]  # rows from the top, columns

    def cropped(time: float) -> Pixels | None:
        found = plate(time)
        return None if found is None else np.ascontiguousarray(found[part])

    host = make_host(origin=(24, HEIGHT - 56), project=(WIDTH, HEIGHT))
    status, picture = host.create({"job": painted.job}, cropped).render(4.0)
    assert status == OK and np.array_equal(picture, result[part])


def test_source_of_another_format_than_the_project(make_host: MakeHost, painted: Painted) -> None:
    host = make_host(project=(1920, 1080))
    status, picture = host.create({"job": painted.job}, painted.plate("byte")).render(4.0)
    assert status == OK and np.array_equal(picture, painted.result("byte", 4))


def test_proxy_of_a_project_is_placed_by_the_render_scale(make_host: MakeHost, painted: Painted) -> None:
    full = painted.plate("float")

    def half_size(time: float) -> Pixels | None:
        found = full(time)
        return None if found is None else cv2.resize(found, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)

    host = make_host(depth="float", scale=0.5, project=(WIDTH, HEIGHT))
    status, picture = host.create({"job": painted.job}, half_size).render(4.0)
    wanted = cv2.resize(painted.result("float", 4), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert status == OK and np.abs(picture - wanted)[..., :3].mean() < 0.004


@pytest.mark.parametrize("depth", ["byte", "short", "half", "float"])
def test_rgb_clip_is_painted_as_its_rgba_is(make_host: MakeHost, painted: Painted, depth: str) -> None:
    host = make_host(depth=depth, components="RGB", padding=5)
    status, picture = host.create({"job": painted.job}, painted.plate(depth)).render(4.0)
    assert status == OK and picture.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(picture, painted.result(depth, 4)[..., :3])


def test_region_of_definition_is_the_sources(make_host: MakeHost, painted: Painted) -> None:
    effect = make_host(origin=(-7, 13)).create({"job": painted.job}, painted.plate("byte"))
    assert effect.region(4.0) == [-7.0, 13.0, -7.0 + WIDTH, 13.0 + HEIGHT]


def test_proxy_is_painted_at_full_size(
    make_host: MakeHost, painted: Painted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "opened"
    opener = tmp_path / "opener.py"
    opener.write_text(f"import sys; open({str(seen)!r}, 'w').write(sys.argv[1])")
    monkeypatch.setenv("PAINTOVER_OPEN", f'"{sys.executable}" "{opener}"')
    full = painted.plate("byte")

    def half_size(time: float) -> Pixels | None:
        found = full(time)
        return None if found is None else cv2.resize(found, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)

    host = make_host(scale=0.5)
    effect = host.create({"sourcePath": str(painted.shot.source)}, half_size)
    effect.edit("paint", time=4.0)
    path = Path(effect.params["keyframePath"].value)
    wait_for(lambda: seen.exists() and seen.read_text() == str(path))
    assert np.array_equal(cv2.imread(str(path)), painted.shot.plate(4))

    effect = host.create({}, half_size)
    effect.edit("paint", time=4.0)
    assert "proxy" in effect.status and not effect.params["keyframePath"].value
    effect.edit("keyframePath", str(painted.shot.keyframe))
    effect.edit("propagate")
    assert "proxy" in effect.status
    assert [job.name for job in painted.client.list_jobs()] == [painted.job]


def test_second_field_is_of_the_same_frame(make_host: MakeHost, painted: Painted) -> None:
    """It is rendered half a frame later."""
    effect = make_host().create({"job": painted.job}, lambda time: painted.plate("byte")(int(time)))
    for field, time in (("OfxFieldUpper", 5.0), ("OfxFieldLower", 5.5)):
        status, picture = effect.render(time, extra={"OfxImageEffectPropFieldToRender": [field]})
        assert status == OK and np.array_equal(picture, painted.result("byte", 5))


def test_animated_mix_and_wipe(make_host: MakeHost, painted: Painted) -> None:
    effect = make_host(depth="float").create({"job": painted.job}, painted.plate("float"))
    described = [effect.params[name].properties.values["OfxParamPropAnimates"] for name in ("mix", "wipe", "view")]
    assert described == [[1], [1], [0]]
    effect.params["mix"].curve = lambda time: time / 8
    for number in (2, 4, 8):
        status, picture = effect.render(float(number))
        assert status == OK
        assert np.abs(picture - painted.result("float", number, number / 8)).max() < 2e-3
    assert effect.is_identity(0.0) and not effect.is_identity(1.0)
    effect.params["mix"].curve = None
    effect.edit("view", "Wipe")
    effect.params["wipe"].curve = lambda time: time / 8
    for number in (2, 4):
        column = WIDTH * number // 8
        plate, result = painted.plate("float")(number), painted.result("float", number)
        assert plate is not None
        picture = effect.render(float(number))[1]
        assert np.array_equal(picture[:, :column], result[:, :column])
        assert np.array_equal(picture[:, column:], plate[:, column:])
