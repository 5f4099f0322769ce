"""The overlay in the viewer: the wipe's line."""

from __future__ import annotations

import numpy as np
from paintover_bridge.client import Client

from tests.conftest import SmallShot
from tests.plugin_ofx.conftest import MakeHost, Painted, wait_for
from tests.plugin_ofx.ofx_host import OK, REPLY_DEFAULT, Overlay
from tests.plugin_ofx.test_effects import source_of

WIDTH, HEIGHT = 96, 64


def test_host_without_drawing_gets_no_overlay(make_host: MakeHost) -> None:
    assert "OfxImageEffectPluginPropOverlayInteractV2" not in make_host().describe().properties.values


def test_wipe_line_is_drawn_and_dragged(make_host: MakeHost, painted: Painted) -> None:
    host = make_host(draws=True, origin=(10, 5))
    effect = host.create({"job": painted.job}, painted.plate("byte"))
    overlay = Overlay(effect)
    assert effect.render(4.0)[0] == OK
    assert overlay.act("Draw") == REPLY_DEFAULT and not host.lines  # no wipe is shown
    effect.edit("view", "Wipe")
    effect.render(4.0)
    assert overlay.act("Draw") == OK
    assert host.lines == [((58.0, 5.0), (58.0, 69.0))]
    assert overlay.act("PenDown", (20.0, 30.0)) == REPLY_DEFAULT  # too far from it
    assert overlay.act("PenDown", (60.0, 30.0)) == OK
    assert overlay.act("PenMotion", (34.0, 90.0)) == OK
    assert host.redraws == 1
    assert overlay.act("PenUp", (34.0, 90.0)) == OK
    assert overlay.act("PenMotion", (80.0, 30.0)) == REPLY_DEFAULT
    assert effect.params["wipe"].value == 0.25
    plate, result = painted.plate("byte")(4), painted.result("byte", 4)
    picture = effect.render(4.0)[1]
    assert plate is not None
    assert np.array_equal(picture[:, :24], result[:, :24]) and np.array_equal(picture[:, 24:], plate[:, 24:])
    assert overlay.destroy() == OK


def test_moving_the_pen_renews_the_viewer(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    """Better frames arrive without a press of Refresh."""
    host = make_host(draws=True)
    effect = host.create({"sourcePath": str(small_shot.source)}, source_of(small_shot))
    effect.render(4.0, interactive=True)
    overlay = Overlay(effect)
    shot = client.create_shot(small_shot.source)
    client.put_keyframe(shot.name, small_shot.key, small_shot.keyframe)
    assert client.wait_until_finished(client.create_job(shot.name).name, 60)
    wait_for(lambda: overlay.act("PenMotion", (5.0, 5.0)) == REPLY_DEFAULT and effect.params["revision"].value > 0)
