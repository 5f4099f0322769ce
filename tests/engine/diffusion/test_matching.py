"""The source recomputed beside the edit, against a pass that reads records of it; and the first window's attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from paintover_engine.diffusion.attention import THRESHOLD  # noqa: E402
from paintover_engine.diffusion.matching import (  # noqa: E402
    AttentionControl,
    attention_blocks,
    coarse_blocks,
    controlled,
    replaced_maps,
)
from paintover_engine.diffusion.svd import load  # noqa: E402

FRAMES = 6
UNCONDITIONAL, EDITED, SOURCE = range(3)


@pytest.fixture(scope="module")
def model(tiny_svd: Path) -> Any:
    return load(tiny_svd, "cpu")


@pytest.fixture(scope="module")
def batch(model: Any) -> tuple[Any, Any, list[Any]]:
    """Latents, levels and conditions of three items; the source's latents stand at a level of their own."""
    generator = torch.Generator().manual_seed(4)
    edit, source = (torch.randn(1, FRAMES, 4, 16, 16, generator=generator) for _ in range(2))
    pictures = [torch.full((1, 3, 32, 32), value) for value in (0.4, -0.6)]
    edited, plain = (model.condition(picture, noise_aug=0.02) for picture in pictures)
    levels = torch.tensor([3.0, 3.0, 2.0])
    return torch.cat([edit, edit, source]), levels, [edited.unconditional(), edited, plain]


def run(model: Any, batch: Any, control: AttentionControl, items: slice = slice(None)) -> Any:
    latents, levels, conditions = batch
    with torch.no_grad(), controlled(model.unet, control):
        return model.raw(latents[items], levels[items], conditions[items])


class Record:
    """Records each self-attention's map, or applies the paper's equations to the map recorded."""

    def __init__(self, attention: Any, temporal: bool) -> None:
        self.temporal, self.recorded = temporal, None
        attention.set_processor(self)

    def __call__(self, attn: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        query, key, value = (
            projection(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projection in (attn.to_q, attn.to_k, attn.to_v)
        )
        own = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, -1)
        if self.recorded is None:
            self.recorded = own
        elif self.temporal:
            own = self.recorded
        else:
            distance = (self.recorded - own).abs().mean(1).sum(-1).clamp(0, 2) / 2
            mask = torch.where(distance >= THRESHOLD, torch.ones_like(distance), distance)[:, None, :, None]
            own = (1 - mask) * self.recorded + mask * own
        return attn.to_out[0]((own @ value).transpose(1, 2).flatten(2))


def test_joint_batch_equals_recorded_source_pass(model: Any, batch: Any) -> None:
    control = AttentionControl(items=3, edited=EDITED, source=SOURCE, temporal="all")
    joint = run(model, batch, control)
    latents, levels, conditions = batch
    given = {}
    try:
        for name in attention_blocks(model.unet):
            module = model.unet.get_submodule(name)
            for temporal, blocks in ((False, module.transformer_blocks), (True, module.temporal_transformer_blocks)):
                for block in blocks:
                    given[block.attn1] = block.attn1.processor
                    Record(block.attn1, temporal)
        with torch.no_grad():
            source = model.raw(latents[SOURCE:], levels[SOURCE:], conditions[SOURCE:])
            edited = model.raw(latents[[EDITED]], levels[[EDITED]], [conditions[EDITED]])
    finally:
        for attention, processor in given.items():
            attention.set_processor(processor)
    torch.testing.assert_close(joint[[SOURCE]], source, atol=1e-5, rtol=0)
    torch.testing.assert_close(joint[[EDITED]], edited, atol=1e-5, rtol=0)
    alone = run(model, batch, AttentionControl(items=1), slice(EDITED, EDITED + 1))
    assert float((joint[[EDITED]] - alone).abs().max()) > 1e-3  # matching did something


def test_unmatched_items_are_as_if_alone(model: Any, batch: Any) -> None:
    joint = run(model, batch, AttentionControl(items=3, edited=EDITED, source=SOURCE, temporal="all"))
    for item in (UNCONDITIONAL, SOURCE):
        alone = run(model, batch, AttentionControl(items=1), slice(item, item + 1))
        torch.testing.assert_close(joint[[item]], alone, atol=1e-5, rtol=0)


def test_processors_without_matching_equal_diffusers(model: Any, batch: Any) -> None:
    latents, levels, conditions = batch
    with torch.no_grad():
        plain = model.raw(latents, levels, conditions)
    torch.testing.assert_close(run(model, batch, AttentionControl(items=3)), plain, atol=1e-5, rtol=0)
    with torch.no_grad():
        assert torch.equal(model.raw(latents, levels, conditions), plain)  # and they are gone again


def test_an_edit_that_is_its_source_stays_it(model: Any, batch: Any) -> None:
    latents, levels, conditions = batch
    same = (latents[[0, 2, 2]], levels[[2, 2, 2]], [conditions[0], conditions[2], conditions[2]])
    joint = run(model, same, AttentionControl(items=3, edited=EDITED, source=SOURCE, temporal="all"))
    torch.testing.assert_close(joint[EDITED], joint[SOURCE], atol=1e-5, rtol=0)


# Temporal stages.


@pytest.mark.parametrize(
    ("bounds", "everywhere", "coarse", "left"),
    [((0.5, 0.8), 12, 8, 5), ((0.8, 0.9), 20, 2, 3), ((0.4, 0.5), 10, 2, 13)],
)
def test_temporal_maps_are_replaced_in_three_stages(
    bounds: tuple[float, float], everywhere: int, coarse: int, left: int
) -> None:
    stages = [replaced_maps(step, 25, bounds) for step in range(25)]
    assert stages == ["all"] * everywhere + ["coarse"] * coarse + ["none"] * left


def test_svd_coarse_layers_are_on_a_quarter_grid() -> None:
    with torch.device("meta"):
        unet = diffusers.UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20))
    blocks = attention_blocks(unet)
    assert len(blocks) == 16
    downs = [blocks.index(name) for name in coarse_blocks(unet) if name.startswith("down")]
    ups = [blocks.index(name) - 7 for name in coarse_blocks(unet) if name.startswith("up")]
    assert (downs, ups, "mid_block.attentions.0" in coarse_blocks(unet)) == ([4, 5], [0, 1, 2], True)
    assert set(coarse_blocks(unet)) - set(coarse_blocks(unet, "reference")) == {blocks[9]}


def test_coarse_stage_replaces_coarse_layers_only(model: Any, batch: Any) -> None:
    outputs = {}
    for temporal in ("all", "coarse", "none"):
        control = AttentionControl(items=3, edited=EDITED, source=SOURCE, temporal=temporal)
        outputs[temporal] = run(model, batch, control)[EDITED]
    for one, other in (("all", "coarse"), ("coarse", "none"), ("all", "none")):
        assert float((outputs[one] - outputs[other]).abs().max()) > 1e-5


# Skip-interval attention.


def attending_first(model: Any, first: Any, batch: Any, **given: Any) -> Any:
    """A call on `batch` after one on the first window's items."""
    control = AttentionControl(items=len(batch[0]), record=True, **given)
    with torch.no_grad(), controlled(model.unet, control):
        model.raw(*first)
        control.record, control.attend_recorded = False, True
        return model.raw(*batch)


def test_own_window_as_first_window_changes_nothing(model: Any, batch: Any) -> None:
    """Every key and value twice: softmax halves each weight, and the sum is what it was. Exact at every layer."""
    given = {"edited": EDITED, "source": SOURCE, "temporal": "coarse"}
    plain = run(model, batch, AttentionControl(items=3, **given))
    torch.testing.assert_close(attending_first(model, batch, batch, **given), plain, atol=1e-5, rtol=0)


def test_other_first_window_changes_every_item(model: Any, batch: Any) -> None:
    latents, levels, conditions = batch
    first = (latents + torch.randn_like(latents), levels, conditions)
    plain, following = run(model, batch, AttentionControl(items=3)), attending_first(model, first, batch)
    assert float((plain - following).abs().amax((1, 2, 3, 4)).min()) > 1e-4


def test_keys_are_the_first_windows_then_the_own(model: Any, batch: Any) -> None:
    """Against attention over both, written out for one layer."""
    torch.manual_seed(6)
    block = model.unet.mid_block.attentions[0].temporal_transformer_blocks[0].attn1
    first, rows = torch.randn(8, FRAMES, 64), torch.randn(8, FRAMES, 64)
    control = AttentionControl(items=2, record=True)
    with torch.no_grad(), controlled(model.unet, control):
        block(first)
        control.record, control.attend_recorded = False, True
        found = block(rows)
        query = block.to_q(rows).unflatten(-1, (block.heads, -1)).transpose(1, 2)
        both = torch.cat([first, rows], dim=1)
        key, value = (p(both).unflatten(-1, (block.heads, -1)).transpose(1, 2) for p in (block.to_k, block.to_v))
        weights = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, -1)
        expected = block.to_out[0]((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_recorded_keys_are_freed_after_the_block(model: Any, batch: Any) -> None:
    control = AttentionControl(items=3, record=True)
    with torch.no_grad(), controlled(model.unet, control):
        model.raw(*batch)
        assert len(control.recorded) == len(attention_blocks(model.unet))
    assert not control.recorded
