from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paintover_engine.diffusion import models, weights
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
    """A folder of that kind of model, with weights of a byte."""
    is_video = kind == "StableVideoDiffusionPipeline"
    for part in ("unet", "vae", "image_encoder" if is_video else "text_encoder"):
        (folder / part).mkdir(parents=True)
        (folder / part / "weights.safetensors").write_bytes(b"0")
    (folder / "scheduler").mkdir()
    if not is_video:
        (folder / "tokenizer").mkdir()
        for name in ("vocab.json", "merges.txt"):
            (folder / "tokenizer" / name).touch()
    unet = {"sample_size": 96, "num_frames": 14, "block_out_channels": [320, 640, 1280, 1280]}
    (folder / "unet" / "config.json").write_text(json.dumps({"in_channels": 8 if is_video else 9, **unet}))
    scheduler = {"prediction_type": "v_prediction", "use_karras_sigmas": True}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [128, 256, 512, 512]}))
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


def test_models_of_hub_and_comfyui_are_listed(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(places / "hub"))
    monkeypatch.setenv("COMFYUI_PATH", str(places / "comfy"))
    make(places / "shipped" / "small")
    made = make(places / "comfy" / "models" / "diffusers" / "mine", kind="StableDiffusionInpaintPipeline")
    for name in ("org--model", "org--damaged", "org--picture"):
        snapshot = places / "hub" / f"models--{name}"
        folder = make(snapshot / "snapshots" / "0123abc")
        if name == "org--picture":
            change(folder / "model_index.json", _class_name="FluxPipeline")
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
        (snapshot / "refs").mkdir()
        (snapshot / "refs" / "main").write_text("0123abc")
        if name == "org--damaged":
            (folder / "model_index.json").write_text("{")
    listed = {model.name: model for model in models.listed()}
    assert list(listed) == ["small", "mine", "org/model"]  # no damaged one, and none that no method takes
    assert listed["mine"].kind == "inpaint" and listed["mine"].size == 3
    assert listed["org/model"].licence == "mit"
    assert models.locate("mine", "inpaint").path == made


def test_missing_model_error_names_size_and_place() -> None:
    with pytest.raises(PaintoverError) as caught:
        models.locate("stabilityai/stable-video-diffusion-img2vid", "svd")
    for part in (
        "not on this machine",
        "hf download stabilityai/",
        '--include "*.fp16.safetensors"',
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


def change(path: Path, **values: object) -> None:
    """Changes values in a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("name", ["weights.bin", "weights.fp16.bin", "weights.ckpt"])
def test_pickled_weights_are_refused(places: Path, part: str, name: str) -> None:
    folder = make(places / "shipped" / "small", kind="StableDiffusionInpaintPipeline")
    (folder / part / "weights.safetensors").rename(folder / part / name)
    with pytest.raises(PaintoverError, match=f"{part} are pickles.*diffusion.convert .*{part}'"):
        models.locate("small", "inpaint")


def test_part_without_weights_is_refused(places: Path) -> None:
    folder = make(places / "shipped" / "small")
    (folder / "vae" / "weights.safetensors").unlink()
    with pytest.raises(PaintoverError, match="incomplete: vae has no safetensors file"):
        models.locate("small", "svd")


@pytest.mark.parametrize(
    "file",
    [
        "paintover.json",
        "scheduler/scheduler_config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "vae/weights.safetensors",
    ],
)
def test_digest_changes_with_every_file_that_is_read(places: Path, file: str) -> None:
    folder = make(places / "shipped" / "small", kind="StableDiffusionInpaintPipeline")
    before = models.locate("small", "inpaint").digest
    (folder / "README.md").write_text("words")
    assert models.locate("small", "inpaint").digest == before
    with (folder / file).open("ab") as changed:
        changed.write(b" ")
    if file == "paintover.json":
        (folder / file).write_text("{}")
    assert models.locate("small", "inpaint").digest != before


def test_digest_changes_with_the_clip_beside_it(places: Path) -> None:
    make(places / "shipped" / "small", kind="StableDiffusionInpaintPipeline")
    clip = places / "data" / "models" / models.CLIP
    clip.mkdir(parents=True)
    (clip / "config.json").write_text("{}")
    (clip / "model.safetensors").write_bytes(b"0")
    before = models.locate("small", "inpaint")
    assert models.locate_clip(before) == clip
    (clip / "model.safetensors").write_bytes(b"1")
    assert models.locate("small", "inpaint").digest != before.digest
    (clip / "model.safetensors").rename(clip / "pytorch_model.bin")
    with pytest.raises(PaintoverError, match="are pickles"):
        models.locate_clip(before)


def test_large_file_of_same_size_and_time_is_noticed(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_HASHED", 2)
    path = make(places / "shipped" / "small") / "unet" / "weights.safetensors"
    path.write_bytes(b"large")
    before, status = models.locate("small", "svd").digest, path.stat()
    assert models.locate("small", "svd").digest == before
    path.with_name("other").write_bytes(b"other")
    path.with_name("other").replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert models.locate("small", "svd").digest != before


@pytest.mark.parametrize(
    ("kind", "file", "values", "message"),
    [
        ("svd", "scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "predicts 'epsilon', not 'v_pred"),
        ("svd", "scheduler/scheduler_config.json", {"use_karras_sigmas": False}, "noise levels are others"),
        ("svd", "unet/config.json", {"in_channels": 4}, "takes 4 channels, not 8"),
        ("inpaint", "unet/config.json", {"in_channels": 4}, "takes 4 channels, not 9"),
        ("inpaint", "scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample', not 'epsil"),
    ],
)
def test_unsuitable_network_is_refused(
    places: Path, kind: str, file: str, values: dict[str, object], message: str
) -> None:
    pipelines = {"svd": "StableVideoDiffusionPipeline", "inpaint": "StableDiffusionInpaintPipeline"}
    folder = make(places / "shipped" / "small", kind=pipelines[kind])
    models.locate("small", kind)
    change(folder / file, **values)
    with pytest.raises(PaintoverError, match=message):
        models.locate("small", kind)


@pytest.mark.parametrize(
    ("kind", "part"),
    [("StableVideoDiffusionPipeline", "scheduler"), ("StableDiffusionInpaintPipeline", "tokenizer")],
)
def test_folder_without_scheduler_or_tokenizer_is_refused(places: Path, kind: str, part: str) -> None:
    shutil.rmtree(make(places / "shipped" / "small", kind) / part)
    with pytest.raises(PaintoverError, match=f"incomplete: {part} is missing"):
        models.locate("small", "inpaint" if part == "tokenizer" else "svd")


def test_tokenizer_without_words_is_refused(places: Path) -> None:
    (make(places / "shipped" / "small", "StableDiffusionInpaintPipeline") / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(PaintoverError, match="tokenizer has neither tokenizer.json nor"):
        models.locate("small", "inpaint")


@pytest.mark.parametrize(
    ("files", "on_cpu", "on_gpu"),
    [
        (["m.safetensors"], None, None),
        (["m.fp16.safetensors"], "fp16", "fp16"),
        (["m.safetensors", "m.fp16.safetensors"], None, "fp16"),
        (["m-00001-of-00002.safetensors", "m.fp16-00001-of-00002.safetensors"], None, "fp16"),
    ],
)
def test_precision_of_weights_follows_the_device(
    tmp_path: Path, files: list[str], on_cpu: str | None, on_gpu: str | None
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert (weights.variant(tmp_path, half=False), weights.variant(tmp_path, half=True)) == (on_cpu, on_gpu)


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
