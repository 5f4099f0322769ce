from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import numpy as np
import torch
from paintover_engine.diffusion import clip_direction, models
from paintover_evaluation import grids
from paintover_evaluation.grids import GridEdit
from torch import Tensor

from tests.engine.diffusion.test_inpaint import small_model

SPACE = clip_direction.TextSpace(
    torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)),
    end=2,
    projection=torch.randn(8, 8, generator=torch.Generator().manual_seed(1)),
)


def embeddings(seed: int) -> Tensor:
    return torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))


def test_equal_pictures_give_the_empty_prompt() -> None:
    towards = clip_direction.direction(embeddings(2), embeddings(2))
    assert torch.equal(clip_direction.prompt(towards, SPACE, 0.7), SPACE.hidden.expand(3, -1, -1))


def test_offset_moves_only_tokens_from_the_end_token_on() -> None:
    towards = clip_direction.direction(embeddings(2), embeddings(3))
    found = clip_direction.prompt(towards, SPACE, 0.7)
    assert torch.equal(found[:, :2], SPACE.hidden[:, :2].expand(3, -1, -1))
    embedded, empty = (states[:, 2] @ SPACE.projection.T for states in (found, SPACE.hidden))
    assert torch.allclose(embedded - empty, 0.7 * empty.norm() * towards, atol=1e-3)


def test_direction_ignores_embedding_length() -> None:
    towards = clip_direction.direction(embeddings(2), embeddings(3))
    assert torch.allclose(clip_direction.direction(5 * embeddings(2), embeddings(3)), towards, atol=1e-6)


def test_literal_prompt_is_the_direction_on_every_token() -> None:
    towards = clip_direction.direction(embeddings(2), embeddings(3))
    found = clip_direction.prompt(towards, SPACE, 0.7, "literal")
    assert torch.allclose(found, (0.7 * towards)[:, None].expand(-1, 6, -1))


@pytest.mark.skipif("small-inpaint" not in models.found("inpaint"), reason="the small model is not in this checkout")
def test_small_clip_separates_edits_by_direction() -> None:
    model = small_model()
    rng = np.random.default_rng(77)
    names, found = [], []
    for kind in (GridEdit.RECOLOUR, GridEdit.TINT):
        worlds = grids.sample(rng, 40, (kind,))
        frames = grids.render(worlds, np.full(40, 0.5, np.float32))
        pictures = [torch.from_numpy(p).permute(0, 3, 1, 2).float() * 2 - 1 for p in (frames.source, frames.edited)]
        found.append(clip_direction.direction(*(model.embed(p) for p in pictures)))
        names += [(kind, int(name)) for name in worlds.edit_name]
    towards = torch.nn.functional.normalize(torch.cat(found), dim=-1)
    alike = towards @ towards.T
    same = torch.tensor([[a == b for b in names] for a in names])
    apart = ~torch.eye(len(names), dtype=torch.bool)
    assert alike[same & apart].mean() > alike[~same].mean() + 0.15
