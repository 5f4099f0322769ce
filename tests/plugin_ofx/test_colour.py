"""The host's colours: linear pictures of encoded files, display-encoded floats, OpenFX 1.5's colour management."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from paintover_bridge.client import Client

from tests.conftest import SmallShot
from tests.plugin_ofx.conftest import MakeHost, Painted, wait_for
from tests.plugin_ofx.ofx_host import FAILED, OK, Pixels, Source
from tests.plugin_ofx.test_effects import propagate


def linear(encoded: Pixels) -> Pixels:
    """sRGB (IEC 61966-2-1) to linear light; alpha stays."""
    values = encoded[..., :3].astype(np.float64)
    light = np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4)
    return np.concatenate([light, encoded[..., 3:]], axis=2).astype(np.float32)


def as_linear(source: Source) -> Source:
    def frame(time: float) -> Pixels | None:
        found = source(time)
        return None if found is None else linear(found)

    return frame


def psnr(one: Pixels, other: Pixels) -> float:
    return float(-10 * np.log10(np.mean((one[..., :3].astype(np.float64) - other[..., :3]) ** 2)))


@pytest.mark.parametrize("choice", ["Automatic", "Linear Rec.709 (Nuke)"])
def test_linear_picture_of_a_display_encoded_file(make_host: MakeHost, painted: Painted, choice: str) -> None:
    """A default Nuke Read over a file's job: 11.9 dB before."""
    host = make_host(depth="float")
    source = as_linear(painted.plate("float"))
    effect = host.create({"sourcePath": str(painted.shot.source), "hostColorspace": choice}, source)
    wait_for(lambda: effect.render(6.0)[0] == OK)
    picture, plate = effect.render(6.0)[1], source(6)
    assert plate is not None
    wanted = linear(painted.result("float", 6))
    assert psnr(picture, wanted) > 45
    assert psnr(plate, wanted) < 25
    untouched = (painted.result("float", 6) == painted.plate("float")(6)).all(axis=2)
    assert np.array_equal(picture[untouched], plate[untouched])
    assert not effect.message


def test_host_that_states_its_colour_space(make_host: MakeHost, painted: Painted) -> None:
    style = {"OfxImageEffectPropColourManagementStyle": ["OfxImageEffectColourManagementCore"]}
    host = make_host(depth="float", extra_host=style, colourspace="lin_rec709_srgb")
    described = host.describe().properties.values
    assert described["OfxImageEffectPropColourManagementStyle"] == ["OfxImageEffectColourManagementCore"]
    source = as_linear(painted.plate("float"))
    effect = host.create({"sourcePath": str(painted.shot.source)}, source)
    assert effect.output_colourspace() == "OfxColourspace_Source"
    wait_for(lambda: effect.render(6.0)[0] == OK)
    assert psnr(effect.render(6.0)[1], linear(painted.result("float", 6))) > 45


def test_nuke_is_asked_for_no_colour_management(make_host: MakeHost) -> None:
    style = {"OfxImageEffectPropColourManagementStyle": ["OfxImageEffectColourManagementCore"]}
    described = make_host(name="uk.co.thefoundry.nuke", extra_host=style).describe().properties.values
    assert "OfxImageEffectPropColourManagementStyle" not in described


def test_graded_picture_is_said(make_host: MakeHost, painted: Painted) -> None:
    effect = make_host().create({"sourcePath": str(painted.shot.source)}, graded(painted.plate("byte")))
    wait_for(lambda: effect.render(4.0, interactive=True)[0] == OK and "not the source's" in effect.message)
    assert effect.render(4.0)[0] == FAILED  # a final render delivers no paint of other colours
    assert "not the source's" in effect.message
    effect.edit("refresh")
    assert "not the source's" in effect.status
    effect.edit("hostColorspace", "As the source")
    assert effect.render(4.0)[0] == OK
    assert not effect.message


def graded(source: Source) -> Source:
    """Another picture than the source's file has."""

    def frame(time: float) -> Pixels | None:
        found = source(time)
        if found is not None:
            found[..., :3] = 255 - found[..., :3]
        return found

    return frame


def test_other_effects_picture_vouches_for_none(make_host: MakeHost, painted: Painted) -> None:
    """Two effects on one shot, the second after a grade."""
    host, plate = make_host(), painted.plate("byte")
    first, second = (host.create({"job": painted.job}, source) for source in (plate, graded(plate)))
    assert first.render(4.0)[0] == OK
    assert second.render(4.0)[0] == FAILED and "not the source's" in second.message
    assert first.render(4.0)[0] == OK and not first.message


def test_grade_that_is_added_later_is_noticed(make_host: MakeHost, painted: Painted) -> None:
    effect = make_host().create({"job": painted.job}, painted.plate("byte"))
    assert effect.render(4.0)[0] == OK
    effect.source = graded(painted.plate("byte"))
    wait_for(lambda: effect.render(4.0)[0] == FAILED, 30)  # it looks again every 10 s
    assert "not the source's" in effect.message


def test_small_tile_is_judged_by_the_whole_picture(make_host: MakeHost, painted: Painted) -> None:
    host, plate, tile = make_host(tiles=True, origin=(3, 5)), painted.plate("byte"), (50, 30, 58, 38)
    status, picture = host.create({"job": painted.job}, plate).render(4.0, window=tile)
    part = np.s_[5 + 64 - 38 : 5 + 64 - 30, 50 - 3 : 58 - 3]
    assert status == OK and np.array_equal(picture[part], painted.result("byte", 4)[part])
    assert host.create({"job": painted.job}, graded(plate)).render(4.0, window=tile)[0] == FAILED


def test_source_that_cannot_be_compared_fails_final_renders(
    make_host: MakeHost, client: Client, small_shot: SmallShot
) -> None:
    shot = client.create_shot(small_shot.source)
    client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
    job = client.create_job(shot.name).name
    assert client.wait_until_finished(job, 60)
    painted = Painted(small_shot, job, shot.name, client)
    plates = {float(number): painted.plate("byte")(number) for number in range(small_shot.count)}
    wanted = painted.result("byte", 4)
    small_shot.source.rename(small_shot.source.with_name("moved"))
    effect = make_host().create({"job": job}, plates.get)
    wait_for(lambda: effect.render(4.0, interactive=True)[0] == OK)
    status, _ = effect.render(4.0)
    assert status == FAILED and effect.message
    effect.edit("hostColorspace", "As the source")
    status, picture = effect.render(4.0)
    assert status == OK and np.array_equal(picture, wanted)


@pytest.mark.parametrize(
    ("host_name", "choice"), [("org.paintover.testhost", "sRGB (display)"), ("DaVinciResolve", "Automatic")]
)
def test_display_encoded_floats_that_are_sent(
    make_host: MakeHost, client: Client, small_shot: SmallShot, host_name: str, choice: str
) -> None:
    """They were taken as linear, and every pixel changed."""
    host = make_host(depth="float", name=host_name)
    plate = Painted(small_shot, "", "", client).plate("float")
    values = {"keyframePath": str(small_shot.keyframe), "keyframeFrame": small_shot.key, "hostColorspace": choice}
    effect = host.create(values, plate)
    job = propagate(effect, client)
    assert client.get_shot(client.get_job(job).spec.shot).colorspace == "sRGB Encoded Rec.709 (sRGB)"
    wait_for(lambda: effect.render(4.0)[0] == OK)
    before, after = plate(4), effect.render(4.0)[1]
    assert before is not None
    changed = (before[..., :3] != after[..., :3]).any(axis=2)
    edited = (small_shot.plate(4) != cv2.imread(str(small_shot.keyframe))).any(axis=2)
    assert changed.any() and changed.sum() < 2 * edited.sum()
    painted = cv2.cvtColor(cv2.imread(str(small_shot.keyframe)), cv2.COLOR_BGR2RGB) / 255
    assert psnr(after, painted) > 35
