"""PlanMethod: what a method would take in memory and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from paintover_bridge.client import Client
from paintover_bridge.errors import ClientError

from tests.conftest import SmallShot


def test_plan_has_windows_memory_and_disk(client: Client, small_shot: SmallShot, tiny_svd: Path) -> None:
    shot = client.create_shot(small_shot.source).name
    plan = client.plan_method(shot, "i2vedit", {"long_side": "32", "training_steps": "9"}, str(tiny_svd))
    assert (plan.windows, plan.frames_per_window) == (3, 6)  # 12 frames, 5 more a window
    assert plan.tiers[0].memory_bytes > max(tier.memory_bytes for tier in plan.tiers[1:]) > 0
    assert {file.name for file in plan.files} >= {"motion adapter", "source at every noise level"}
    assert plan.checkpoint_bytes > 0


def test_method_without_a_plan_is_refused(client: Client, small_shot: SmallShot) -> None:
    shot = client.create_shot(small_shot.source).name
    with pytest.raises(ClientError, match="The method draft has no plan to print"):
        client.plan_method(shot, "draft", {}, "")
