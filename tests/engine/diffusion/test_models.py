from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paintover_engine.diffusion import models
from paintover_engine.errors import PaintoverError


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of models that hold nothing."""
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("PAINTOVER_MODELS", raising=False)
    monkeypatch.setattr(models, "SHIPPED", tmp_path / "shipped")
    return tmp_path


def make(folder: Path, kind: str = "StableVideoDiffusionPipeline") -> Path:
    for part in ("unet", "vae", "image_encoder"):
        (folder / part).mkdir(parents=True)
    (folder / "unet" / "config.json").write_text(
        json.dumps({"sample_size": 96, "num_frames": 14, "block_out_channels": [320, 640, 1280, 1280]})
    )
    (folder / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [128, 256, 512, 512]}))
    (folder / "unet" / "weights.safetensors").write_bytes(b"0")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder


def test_model_is_found_by_name_folder_and_hub_id(places: Path) -> None:
    made = [make(places / where) for where in ("shipped/small", "own/mine", "data/models/org/model")]
    names = ["small", str(places / "own" / "mine"), "org/model"]
    assert [models.locate(name, "svd").path for name in names] == made
    assert models.found() == ["small", "org/model"]
    assert models.found("inpaint") == []


def test_models_folder_comes_from_the_environment(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(places / "elsewhere" / "org" / "model")
    monkeypatch.setenv("PAINTOVER_MODELS", str(places / "elsewhere"))
    assert models.locate("org/model", "svd").path == made


def test_a_hub_id_is_found_where_it_was_downloaded(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(places / "hub"))
    downloaded = places / "hub" / "models--org--model"
    made = make(downloaded / "snapshots" / "0123abc")
    (downloaded / "refs").mkdir()
    (downloaded / "refs" / "main").write_text("0123abc")
    assert models.locate("org/model", "svd").path == made


def test_missing_model_error_names_size_and_place() -> None:
    with pytest.raises(PaintoverError) as caught:
        models.locate("stabilityai/stable-video-diffusion-img2vid", "svd")
    for part in (
        "not on this machine",
        "hf download stabilityai/",
        "4.5 GB",
        "Community License",
        "models/stabilityai",
    ):
        assert part in caught.value.message


def test_a_misspelt_name_gets_the_nearest(places: Path) -> None:
    make(places / "shipped" / "small-svd")
    with pytest.raises(PaintoverError, match="Did you mean 'small-svd'"):
        models.locate("smal-svd", "svd")


def test_a_model_of_another_kind_is_refused(places: Path) -> None:
    make(places / "shipped" / "small", kind="StableDiffusionInpaintPipeline")
    with pytest.raises(
        PaintoverError, match="'small' is a Stable Diffusion inpainting model; this method needs an image"
    ):
        models.locate("small", "svd")


def test_a_folder_without_one_of_its_parts_is_refused(places: Path) -> None:
    shutil.rmtree(make(places / "shipped" / "small") / "vae")
    with pytest.raises(PaintoverError, match="incomplete: vae is missing"):
        models.locate("small", "svd")


def test_damaged_descriptions_are_told(places: Path) -> None:
    folder = make(places / "shipped" / "small")
    (folder / "vae" / "config.json").write_text("{")
    with pytest.raises(PaintoverError, match="damaged"):
        models.video_shape(folder)
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(PaintoverError, match="damaged"):
        models.locate("small", "svd")


def test_the_digest_changes_with_the_weights_alone(places: Path) -> None:
    folder = make(places / "shipped" / "small")
    before = models.locate("small", "svd").digest
    (folder / "README.md").write_text("words")
    assert models.locate("small", "svd").digest == before
    (folder / "unet" / "weights.safetensors").write_bytes(b"11")
    assert models.locate("small", "svd").digest != before


def test_svd_shape_is_read_from_its_configuration(places: Path) -> None:
    shape = models.video_shape(make(places / "shipped" / "small"))
    assert (shape.frames, shape.factor, shape.multiple, shape.area) == (14, 8, 64, 1024 * 576)


def test_a_model_may_say_what_suits_it(places: Path) -> None:
    folder = make(places / "shipped" / "small")
    (folder / "paintover.json").write_text(json.dumps({"frames": 8, "size": [64, 32], "strength": 0.4}))
    assert models.locate("small", "svd").default("strength", 0.55) == 0.4
    assert models.locate("small", "svd").default("guidance", 4.0) == 4.0
    assert (models.video_shape(folder).frames, models.video_shape(folder).area) == (8, 2048)


def test_names_are_found_without_torch() -> None:
    program = "import sys; from paintover_engine.diffusion import models; models.found(); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "False"
