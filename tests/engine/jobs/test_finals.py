"""The method that is taken for a final unasked, on machines with this or that GPU and these or those models."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from paintover_engine.diffusion import models
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.finals import Final, Finals
from paintover_engine.jobs.protocol import ModelMemoryReply, ModelMemoryRequest
from paintover_engine.methods import registry

CPU = Device("8 CPU cores", "cpu", 0, 64 * 10**9)
NEEDED = 10**9
"""What CUDA itself takes, and little beside it for a tiny model."""


class InProcess:
    """Counts as a media worker does, without its process."""

    async def call(self, request: ModelMemoryRequest) -> ModelMemoryReply:
        return ModelMemoryReply(memory=registry.trained_size_memory(request.model))


def gpu(memory: int, problem: str = "") -> Device:
    return Device("NVIDIA Tiny", "cuda", 0, memory, tried="" if problem else "computes", problem=problem)


def chosen(*devices: Device) -> Final:
    async def choose() -> Final:
        finals = Finals(lambda: [CPU, *devices], InProcess())  # type: ignore[arg-type]
        assert not finals.known().sure
        finals.tried.set()
        return await finals.choose()

    return asyncio.run(choose())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models lie: nowhere else, and none ships."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name, found in (("SHIPPED", tmp_path / "shipped"), ("_folders", lambda: [folder]), ("_hub_snapshots", tuple)):
        monkeypatch.setattr(models, name, found)
    return folder


def test_best_method_is_what_the_gpu_holds(tiny_wan: Callable[[str], Path], here: Path) -> None:
    large = gpu(8 * 10**9)
    assert chosen(large).method == "draft" and "no video model is on this machine" in chosen(large).why
    shutil.copytree(tiny_wan("vace"), here / "small")
    assert chosen(large).method == "vace"
    shutil.copytree(tiny_wan("a14b"), here / "ours")
    final = chosen(large)
    assert (final.method, final.model, final.sure) == ("flowedit", "ours", True)
    assert final.why == "Carried by the method flowedit with ours, on NVIDIA Tiny."
    tight = chosen(gpu(NEEDED // 10))
    assert tight.method == "draft" and "ours takes" in tight.why and "more than NVIDIA Tiny has" in tight.why


@pytest.mark.parametrize("devices", [(), (gpu(8 * 10**9, problem="the driver is too old"),)])
def test_best_method_without_a_usable_gpu_is_the_draft(
    tiny_wan: Callable[[str], Path], here: Path, devices: tuple[Device, ...]
) -> None:
    shutil.copytree(tiny_wan("a14b"), here / "ours")
    final = chosen(*devices)
    assert (final.method, final.model) == ("draft", "") and "on the CPU a video model takes days" in final.why


def test_shipped_model_is_never_taken_unasked(tiny_wan: Callable[[str], Path], here: Path) -> None:
    shutil.copytree(tiny_wan("a14b"), here.parent / "shipped" / "small-wan")
    assert chosen(gpu(8 * 10**9)).method == "draft"


def test_ltx_is_listed_with_a_licence_that_is_not_apaches(here: Path) -> None:
    for name, kind in (("ltx", "LTXConditionPipeline"), ("ltx-2", "LTX2InContextPipeline")):
        (here / name).mkdir()
        (here / name / "model_index.json").write_text(f'{{"_class_name": "{kind}"}}')
        (here / name / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    found = {model.name: model for model in registry.found_models()}
    assert found.keys() == {"ltx", "ltx-2"} and not any(model.methods for model in found.values())
    assert all("not Apache 2.0" in model.licence for model in found.values())
