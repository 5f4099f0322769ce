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
    plate = painted.plate("byte")

    def graded(time: float) -> Pixels | None:
        found = plate(time)
        if found is not None:
            found[..., :3] = 255 - found[..., :3]
        return found

    effect = make_host().create({"sourcePath": str(painted.shot.source)}, graded)
    wait_for(lambda: effect.render(4.0, interactive=True)[0] == OK and "not the source's" in effect.message)
    assert effect.render(4.0)[0] == FAILED  # a final render delivers no paint of other colours
    assert "not the source's" in effect.message
    effect.edit("refresh")
    assert "not the source's" in effect.status
    effect.edit("hostColorspace", "As the source")
    assert effect.render(4.0)[0] == OK
    assert not effect.message


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
