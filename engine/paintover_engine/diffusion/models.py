"""Names and folders of models. Light to import: no torch.

A model is a folder in the diffusers format. Beside that format it may hold `paintover.json`, all of it optional:
    {"frames": 14,                      frames of a window; else what unet/config.json says
     "size": [1024, 576],               width and height that it was trained on; else unet/config.json's sample_size
     "later_frames": true,              of a Wan model: whether more frames than the first may be given to it
     "strength": 0.55, "guidance": 4.0, "noise_aug_strength": 0.2, "threshold": 1.0,
     "normalisation": "channel", "rescaling": "match", "condition": "code"}
The last two lines' are what its methods take where the user sets nothing.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from paintover_engine.diffusion import wan_folder, weights
from paintover_engine.errors import Code, PaintoverError, nearest

SHIPPED = Path(__file__).resolve().parents[1] / "models"

_NETWORKS = {"svd": ("unet", "vae", "image_encoder"), "inpaint": ("unet", "vae", "text_encoder")}
_OTHERS = {"svd": ("scheduler",), "inpaint": ("tokenizer", "scheduler")}
_KINDS = {
    "StableVideoDiffusionPipeline": "svd",
    "StableDiffusionInpaintPipeline": "inpaint",
    "WanImageToVideoPipeline": "wan",
    "WanPipeline": "wan",  # of which `_kind` takes those that start from a picture
    "WanVACEPipeline": "vace",
    **dict.fromkeys(("LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline"), "ltx"),
    **dict.fromkeys(("LTX2Pipeline", "LTX2ImageToVideoPipeline", "LTX2ConditionPipeline"), "ltx2"),
    "LTX2InContextPipeline": "ltx2",
}
_WORDS = {
    "svd": "an image-to-video model of the Stable Video Diffusion kind",
    "inpaint": "a Stable Diffusion inpainting model",
    "wan": "an image-to-video model of the Wan kind",
    "vace": "a VACE model of the Wan kind",
    "ltx": "an LTX-Video model, which no method computes with",
    "ltx2": "an LTX-2 model, which no method computes with",
}
_LICENCES = {
    "ltx": "LTXV Open Weights or another of Lightricks' (not Apache 2.0)",
    "ltx2": "LTX-2 Community License (not Apache 2.0)",
}
"""Of kinds of models whose cards are often taken for Apache's."""
WAN_KINDS = ("wan", "vace")
_CHANNELS = {"svd": 8, "inpaint": 9}
_PREDICTIONS = {"svd": ("v_prediction",), "inpaint": ("epsilon", "v_prediction")}
_KNOWN = {
    "stabilityai/stable-video-diffusion-img2vid": ("4.5 GB in half precision", "Stability AI's Community License"),
    "stabilityai/stable-video-diffusion-img2vid-xt": ("4.5 GB in half precision", "Stability AI's Community License"),
    "stable-diffusion-v1-5/stable-diffusion-inpainting": ("2.1 GB in half precision", "CreativeML Open RAIL-M"),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": ("46 GB in half precision", "Apache 2.0"),
    "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers": ("46 GB in half precision", "Apache 2.0"),
    "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers": ("46 GB in half precision", "Apache 2.0"),
    "Wan-AI/Wan2.1-VACE-1.3B-Diffusers": ("16 GB in half precision", "Apache 2.0"),
    "Wan-AI/Wan2.1-VACE-14B-Diffusers": ("46 GB in half precision", "Apache 2.0"),
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers": ("69 GB in half precision", "Apache 2.0"),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": ("24 GB in half precision", "Apache 2.0"),
}
"""Hub id to size and licence of what the methods take unasked."""

_WANTED = ' --include "*.json" --include "*.txt" --include "*.fp16.safetensors" --exclude "safety_checker/*"'
"""What of these is read, in half precision: their whole repositories are several times as large."""


@dataclass(frozen=True)
class VideoShape:
    """What a video model sees at once. frames: of one window. factor: pixels a latent on either axis. multiple: what
    width and height in pixels must be a multiple of. area: pixels of the pictures it was trained on."""

    frames: int
    factor: int
    multiple: int
    area: int


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine. digest: names its weights, for stages' keys. kind: "svd", "inpaint", "wan" or
    "vace"."""

    name: str
    path: Path
    digest: str
    kind: str

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """What its `paintover.json` says; empty where there is none."""
        path = self.path / "paintover.json"
        return read_json(path) if path.is_file() else {}

    def default(self, name: str, otherwise: float) -> float:
        """A number of its `paintover.json`; `otherwise` where it has none of that name."""
        return float(self.settings.get(name, otherwise))


def video_shape(path: Path) -> VideoShape:
    """Read off the configuration of a video model's folder. Raises PaintoverError where that is damaged."""
    if _kind(path) in WAN_KINDS:
        layout = wan_layout(path)
        multiple = layout.factor * layout.patch
        return VideoShape(layout.frames, layout.factor, multiple, layout.size[0] * layout.size[1])
    try:
        unet, vae = (read_json(path / part / "config.json") for part in ("unet", "vae"))
        settings = read_json(path / "paintover.json") if (path / "paintover.json").is_file() else {}
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        side = int(unet.get("sample_size") or 96) * factor
        width, height = settings.get("size", (side, side))
        return VideoShape(
            frames=int(settings.get("frames", unet["num_frames"])),
            factor=factor,
            multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
            area=int(width) * int(height),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PaintoverError(
            Code.FAILED_PRECONDITION, f"The model folder {path} is damaged (a config.json); download it again."
        ) from error


def wan_layout(path: Path) -> wan_folder.WanLayout:
    """The layout of a folder of a kind in `WAN_KINDS`. Raises PaintoverError where it is damaged."""
    try:
        settings = read_json(path / "paintover.json") if (path / "paintover.json").is_file() else {}
        return wan_folder.read_layout(path, settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PaintoverError(
            Code.FAILED_PRECONDITION, f"The model folder {path} is damaged (a config.json); download it again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def locate(name: str, *kinds: str) -> ModelFolder:
    """The model of a name: a shipped one, a folder, or a hub id that was downloaded. kinds: of which it may be.

    Raises PaintoverError that says what to download, how large it is, under which licence, and where to put it."""
    path = next((path for path in _places(name) if (path / "model_index.json").is_file()), None)
    if path is None:
        raise _missing(name, kinds)
    kind = _kind(path)
    if kind not in kinds:
        wanted = " or ".join(_WORDS[each] for each in kinds)
        raise PaintoverError(
            Code.INVALID_ARGUMENT,
            f"The model '{name}' is {_WORDS.get(kind, 'of another kind')}; this method needs {wanted}.",
        )
    for part in _parts(path, kind):
        if not (path / part).is_dir():
            raise PaintoverError(
                Code.FAILED_PRECONDITION,
                f"The model folder {path} is incomplete: {part} is missing; download it again.",
            )
    for part in _networks(path, kind):
        weights.require_safetensors(path / part)
    if kind == "inpaint":
        weights.require_tokenizer(path / "tokenizer")
    _check_configuration(path, kind)
    clip = find_clip(path) if kind == "inpaint" else None
    return ModelFolder(name, path, digest(path, kind, clip), kind)


def digest(path: Path, kind: str, clip: Path | None = None) -> str:
    """16 hex digits of all files that are read of the model in a folder, and of the CLIP that it is computed with."""
    parts = [file for part in _parts(path, kind) for file in (path / part).rglob("*") if file.is_file()]
    groups = [(path, [*path.glob("*.json"), *parts])]
    if clip is not None:
        groups.append((clip, [*clip.glob("*.json"), *clip.glob("*.safetensors")]))
    return weights.digest(groups)


def _networks(path: Path, kind: str) -> tuple[str, ...]:
    """The folders of a model's weights."""
    return _NETWORKS.get(kind) or tuple(part for part in wan_layout(path).parts if part in wan_folder.NETWORKS)


def _parts(path: Path, kind: str) -> tuple[str, ...]:
    """All folders of a model that are read."""
    return (*_NETWORKS[kind], *_OTHERS[kind]) if kind in _NETWORKS else wan_layout(path).parts


def _check_configuration(path: Path, kind: str) -> None:
    """Raises PaintoverError for a network that the methods of that kind of model would compute wrong results with."""
    if kind in WAN_KINDS:
        if wrong := wan_folder.fault(path, wan_layout(path), kind):
            raise PaintoverError(Code.INVALID_ARGUMENT, f"The model in {path} is not {_WORDS[kind]}: {wrong}.")
        return
    try:
        unet, scheduler = (read_json(path / file) for file in ("unet/config.json", "scheduler/scheduler_config.json"))
    except (OSError, ValueError, TypeError) as error:
        raise PaintoverError(
            Code.FAILED_PRECONDITION,
            f"The model folder {path} is damaged (the configuration of unet or scheduler); download it again.",
        ) from error
    channels = unet.get("in_channels", 8 if kind == "svd" else 4)
    prediction = scheduler.get("prediction_type", "epsilon")
    wrong = ""
    if channels != _CHANNELS[kind]:
        wrong = f"its network takes {channels} channels, not {_CHANNELS[kind]}"
    elif prediction not in _PREDICTIONS[kind]:
        wrong = f"its network predicts '{prediction}', not {' or '.join(map(repr, _PREDICTIONS[kind]))}"
    elif kind == "svd" and not scheduler.get("use_karras_sigmas"):
        wrong = "its noise levels are others (use_karras_sigmas is off)"
    if wrong:
        raise PaintoverError(Code.INVALID_ARGUMENT, f"The model in {path} is not {_WORDS[kind]}: {wrong}.")


def found(kind: str = "") -> list[str]:
    """The names of the models that are here, shipped ones first; of one kind, or of all."""
    names = [name for folder in (SHIPPED, *_folders()) for name in _names_in(folder, kind)]
    return list(dict.fromkeys([*names, *(name for name, path in _hub_snapshots() if _is_of(path, kind))]))


@dataclass(frozen=True)
class FoundModel:
    """A model on this machine, as it is listed. size: bytes of its safetensors files. path: its folder."""

    name: str
    kind: str
    licence: str
    size: int
    path: Path

    @property
    def trained_size(self) -> tuple[int, int]:
        """Width and height of a picture that a video model was trained on, and of a size that others work on.

        Raises PaintoverError where its folder is damaged."""
        if self.kind in WAN_KINDS:
            return wan_layout(self.path).size
        side = round(video_shape(self.path).area ** 0.5) if self.kind == "svd" else 512
        return side, side


def listed() -> list[FoundModel]:
    """What there is to know of each of `found`, without looking into its weights."""
    models = []
    for name in found():
        path = next(path for path in _places(name) if (path / "model_index.json").is_file())
        size = sum(file.stat().st_size for file in path.rglob("*.safetensors"))
        models.append(FoundModel(name, _kind(path), licence(ModelFolder(name, path, "", "")), size, path))
    return models


def is_shipped(name: str) -> bool:
    """Whether a name is of a small model that comes with the engine."""
    return (SHIPPED / name / "model_index.json").is_file()


def licence(model: ModelFolder) -> str:
    """The name of a model's licence, as its model card states it; "unknown" where nothing does."""
    if model.name in _KNOWN:
        return _KNOWN[model.name][1]
    if (kind := model.kind or _kind(model.path)) in _LICENCES:
        return _LICENCES[kind]
    card = model.path / "README.md"
    header = re.match(r"---\n(.*?)\n---", card.read_text("utf-8", "replace"), re.DOTALL) if card.is_file() else None
    stated = dict(re.findall(r"^(license|license_name):\s*(\S.*?)\s*$", header[1], re.MULTILINE)) if header else {}
    return stated.get("license_name") or stated.get("license") or "unknown"


CLIP = "openai/clip-vit-large-patch14"
"""The CLIP whose text tower Stable Diffusion 1.5 reads."""


def locate_clip(model: ModelFolder) -> Path:
    """The folder of the whole CLIP that belongs to an "inpaint" model: its own `clip` folder, else ViT-L/14.

    Raises PaintoverError that says what to download, how large it is, under which licence, and where to put it."""
    if found := find_clip(model.path):
        weights.require_safetensors(found)
        return found
    raise PaintoverError(
        Code.FAILED_PRECONDITION,
        f"The CLIP that tells edits apart for '{model.name}' is not on this machine: download it with 'hf download "
        f'{CLIP} --include "*.json" --include "*.txt" --include "model.safetensors"\' (1.7 GB, under the MIT licence), '
        f"or put its folder at {_folders()[-1] / CLIP}.",
    )


def find_clip(path: Path) -> Path | None:
    """The folder of the whole CLIP of the "inpaint" model in a folder; None where it is not on this machine."""
    places = [path / "clip", *(folder / CLIP for folder in _folders())]
    if cached := _hub_snapshot(CLIP, "config.json"):
        places.append(cached)
    return next((place for place in places if (place / "config.json").is_file()), None)


def _places(name: str) -> Iterator[Path]:
    """Where a model of that name may lie, the most particular first."""
    if name and "/" not in name and "\\" not in name:
        yield SHIPPED / name
    yield Path(name).expanduser()
    for folder in _folders():
        yield folder / name
    if cached := _hub_snapshot(name):
        yield cached


def _folders() -> list[Path]:
    """Where users keep models: $PAINTOVER_MODELS, ComfyUI's, and last `models` in the data folder."""
    data = os.environ.get("PAINTOVER_DATA") or platformdirs.user_data_dir("paintover", appauthor=False)
    given = os.environ.get("PAINTOVER_MODELS", "")
    return [*(Path(part) for part in given.split(os.pathsep) if part), *_comfyui(), Path(data) / "models"]


def _comfyui() -> list[Path]:
    """Where ComfyUI keeps models in the diffusers format: in $COMFYUI_PATH, and where it installs itself."""
    given = os.environ.get("COMFYUI_PATH", "")
    roots = [*([Path(given)] if given else []), Path.home() / "ComfyUI", Path.home() / "Documents" / "ComfyUI"]
    return [folder for root in roots if (folder := root / "models" / "diffusers").is_dir()]


def _hub_snapshot(name: str, file: str = "model_index.json") -> Path | None:
    """The folder of a hub id in the Hugging Face cache; None where it was never downloaded."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        index = try_to_load_from_cache(name, file)
    except HFValidationError:
        return None
    return Path(index).parent if isinstance(index, str) else None


def _hub_snapshots() -> Iterator[tuple[str, Path]]:
    """The hub ids in the Hugging Face cache, and the folder of each."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        name = folder.name.removeprefix("models--").replace("--", "/", 1)
        if found := _hub_snapshot(name):
            yield name, found


def _names_in(folder: Path, kind: str) -> list[str]:
    indices = sorted([*folder.glob("*/model_index.json"), *folder.glob("*/*/model_index.json")])
    return [index.parent.relative_to(folder).as_posix() for index in indices if _is_of(index.parent, kind)]


def _is_of(path: Path, kind: str) -> bool:
    """Whether a folder is of a kind, or of any that methods compute with; not where it is damaged."""
    try:
        return _kind(path) == kind if kind else _kind(path) in _WORDS
    except PaintoverError:
        return False


def _kind(path: Path) -> str:
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        kind = _KINDS.get(index["_class_name"], "")
        return "" if index["_class_name"] == "WanPipeline" and not index.get("expand_timesteps") else kind
    except (ValueError, KeyError, TypeError) as error:
        raise PaintoverError(
            Code.FAILED_PRECONDITION, f"The model folder {path} is damaged (model_index.json); download it again."
        ) from error


def _missing(name: str, kinds: Sequence[str]) -> PaintoverError:
    size, licence = _KNOWN.get(name, ("", ""))
    facts = f" ({size}, under {licence})" if size else ""
    if "/" in name and not Path(name).is_absolute():
        wanted = _WANTED if size and not name.startswith("Wan-AI/") else ""
        how = f"download it with 'hf download {name}{wanted}'{facts}, or put its folder at {_folders()[-1] / name}"
    else:
        near = nearest(name, [model for kind in kinds for model in found(kind)]).removesuffix(".")
        how = f"name a folder in the diffusers format, a hub id that was downloaded, or one that is here.{near}"
    return PaintoverError(
        Code.FAILED_PRECONDITION, f"The model '{name}' is not on this machine: {how.removesuffix('.')}."
    )
