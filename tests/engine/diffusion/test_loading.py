"""What is read out of a model's folder: nothing stale, no pickle, and nothing from a server."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from paintover_engine.diffusion import convert, inpaint, models
from paintover_engine.errors import PaintoverError
from safetensors.torch import load_file, save_file

NAME = "small-inpaint"
pytestmark = pytest.mark.skipif(NAME not in models.found("inpaint"), reason="the small model is not in this checkout")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the small model."""
    return Path(shutil.copytree(models.locate(NAME, "inpaint").path, tmp_path / "model"))


@pytest.mark.parametrize("contents", ["cut short", None])
def test_damaged_or_missing_tokenizer_is_named(folder: Path, contents: str | None) -> None:
    shutil.rmtree(folder / "tokenizer")
    if contents is not None:
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "tokenizer.json").write_text(contents)
    with pytest.raises(PaintoverError, match=r"model is damaged \(tokenizer|incomplete: tokenizer"):
        inpaint.load(folder, folder / "clip")


@pytest.mark.parametrize("part", ["scheduler", "tokenizer", "text_encoder", "unet", "clip"])
def test_missing_part_is_not_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    asked: list[object] = []

    def refused(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    for file in (folder / part).iterdir():
        file.unlink()
    with pytest.raises(PaintoverError, match="damaged|incomplete"):
        inpaint.InpaintModel(folder, folder / "clip", torch.device("cpu"), torch.float32)
    assert not asked


def test_changed_weights_are_loaded_anew(folder: Path) -> None:
    before = inpaint.load(folder, folder / "clip", "cpu")
    assert inpaint.load(folder, folder / "clip", "cpu") is before
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.5 for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    after = inpaint.load(folder, folder / "clip", "cpu")
    assert not torch.equal(next(after.vae.parameters()), next(before.vae.parameters()))


class Attack:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickled_weights_run_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"weight": Attack(tmp_path / "ran")}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(PaintoverError, match="unet are pickles"):
        inpaint.load(folder, folder / "clip")
    with pytest.raises(PaintoverError, match="more than tensors"):
        convert.convert(folder / "unet")
    assert not (tmp_path / "ran").exists()
    assert not list((folder / "unet").glob("*.safetensors"))


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_converted_weights_are_the_same(folder: Path, part: str) -> None:
    (path,) = (folder / part).glob("*.safetensors")
    original = load_file(path)
    name = "pytorch_model" if part == "text_encoder" else path.stem
    first, last = dict(list(original.items())[:3]), dict(list(original.items())[3:])
    for number, tensors in enumerate((first, last), start=1):
        torch.save(tensors, folder / part / f"{name}-0000{number}-of-00002.bin")
    where = {tensor: f"{name}-0000{1 if tensor in first else 2}-of-00002.bin" for tensor in original}
    (folder / part / f"{name}.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    path.unlink()
    written = convert.convert(folder / part)
    assert [file.name for file in written] == [f"{path.stem}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    network = getattr(inpaint, {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel"}[part])
    read = inpaint.loading.network(network, folder, part, torch.float32).state_dict()
    shipped = models.locate(NAME, "inpaint").path
    expected = inpaint.loading.network(network, shipped, part, torch.float32).state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in read.items())


def test_folder_without_pickles_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PaintoverError, match="no pickled weights"):
        convert.convert(folder / "unet")
