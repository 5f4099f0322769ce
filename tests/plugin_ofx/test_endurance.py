"""Many renders, and values and pictures that no host should hand over."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from tests.plugin_ofx.conftest import MakeHost, Painted
from tests.plugin_ofx.ofx_host import FAILED, OK


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
