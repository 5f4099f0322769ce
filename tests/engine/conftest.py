"""Models small enough to run in every test: the true classes, random weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine import wan_folders

FRAMES = 6
SIDE = 32


@pytest.fixture(scope="session")
def tiny_svd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of Stable Video Diffusion's classes with random weights: windows of 6 frames of 32x32, two
    pixels a latent, sizes in multiples of 4 pixels."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)
    torch.manual_seed(3)
    unet = diffusers.UNetSpatioTemporalConditionModel(
        sample_size=SIDE // 2,
        num_frames=FRAMES,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        num_attention_heads=(2, 4),
        cross_attention_dim=16,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )
    vae = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    )
    clip = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            projection_dim=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=224,
            patch_size=32,
        )
    )
    pipeline = diffusers.StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=clip,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            sigma_min=0.002,
            sigma_max=700.0,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
        feature_extractor=transformers.CLIPImageProcessor(),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-svd"
    pipeline.save_pretrained(folder)
    settings = {"frames": FRAMES, "size": [SIDE, SIDE], "strength": 0.3, "guidance": 2.0, "normalisation": "frame"}
    (folder / "paintover.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="session", params=wan_folders.LAYOUTS)
def wan_layout(request: pytest.FixtureRequest) -> str:
    """Each layout of Wan's in turn (`wan_folders`)."""
    return str(request.param)


@pytest.fixture(scope="session")
def tiny_wan(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a layout of Wan's, with random weights."""
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("wan")

    @functools.cache
    def made(layout: str) -> Path:
        return wan_folders.save(layout, folder / f"tiny-{layout}")

    return made
