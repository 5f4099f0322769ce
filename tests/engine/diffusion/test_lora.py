"""Motion adapters: where they sit, on what they act, how they are trained, and who can read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")

from paintover_engine.diffusion import lora, schedule, training  # noqa: E402
from paintover_engine.diffusion.svd import load  # noqa: E402

SETTINGS = training.TrainingSettings(steps=6, checkpoint=2, early=False)


@pytest.fixture
def model(tiny_svd: Path) -> Any:
    return load(tiny_svd, "cpu")


@pytest.fixture
def adapters(model: Any) -> Iterator[lora.Adapters]:
    with lora.Adapters(model.unet, rank=4) as made:
        yield made


@pytest.fixture
def clean() -> Any:
    return torch.randn(1, 6, 4, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def condition(model: Any) -> Any:
    return model.condition(torch.zeros(1, 3, 32, 32), noise_aug=0.0)


def weighty(adapters: lora.Adapters, name: str, seed: int) -> None:
    """A new adapter whose output matters."""
    adapters.add(name, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        key: 0.3 * torch.randn(value.shape, generator=generator) for key, value in adapters.weights(name).items()
    }
    peft.set_peft_model_state_dict(
        adapters._unet, {k.removeprefix("base_model.model."): v for k, v in weights.items()}, adapter_name=name
    )


def test_adapters_sit_on_svd_layers_that_can_learn() -> None:
    with torch.device("meta"):
        unet = diffusers.UNetSpatioTemporalConditionModel(
            num_attention_heads=(5, 10, 20, 20), cross_attention_dim=1024, num_frames=14
        )
    inside = [
        module
        for name, module in unet.named_modules()
        if ".temporal_transformer_blocks." in name and isinstance(module, torch.nn.Linear)
    ]
    chosen = [unet.get_submodule(name) for name in lora.layers(unet)]
    assert (len(inside), len(chosen), len(lora.layers(unet, "attention"))) == (192, 160, 64)
    assert sum(32 * (linear.in_features + linear.out_features) for linear in inside) == pytest.approx(17.82e6, rel=1e-3)
    assert not any("attn2.to_q" in name or "attn2.to_k" in name for name in lora.layers(unet))


def test_a_new_adapter_changes_nothing(model: Any, adapters: lora.Adapters, clean: Any, condition: Any) -> None:
    before = model.raw(clean, 2.0, [condition])
    adapters.add("window", seed=1)
    adapters.act({"window": [1.0]})
    assert torch.equal(model.raw(clean, 2.0, [condition]), before)


def test_an_adapter_acts_on_its_items_alone(model: Any, adapters: lora.Adapters, clean: Any, condition: Any) -> None:
    batch, conditions = clean.expand(3, -1, -1, -1, -1), [condition] * 3
    plain = model.raw(clean, 2.0, [condition])[0]
    weighty(adapters, "window", 1)
    weighty(adapters, "first", 2)
    adapters.act({"window": [1.0]})
    adapted = model.raw(clean, 2.0, [condition])[0]
    assert not torch.allclose(adapted, plain, atol=1e-3)
    adapters.act({"window": [1.0, 0.0, 0.0], "first": [0.0, 1.0, 0.0]})
    edited, first, source = model.raw(batch, 2.0, conditions)
    torch.testing.assert_close(edited, adapted, atol=3e-5, rtol=0)
    torch.testing.assert_close(source, plain, atol=3e-5, rtol=0)
    assert not torch.allclose(first, plain, atol=1e-3)
    assert not torch.allclose(first, adapted, atol=1e-3)


def test_network_is_unchanged_without_acting_adapters(model: Any, clean: Any, condition: Any) -> None:
    before, names = model.raw(clean, 2.0, [condition]), list(model.unet.state_dict())
    with lora.Adapters(model.unet, rank=4) as adapters:
        weighty(adapters, "window", 1)
        adapters.act({"window": [0.0]})
        assert torch.equal(model.raw(clean, 2.0, [condition]), before)
        adapters.act({"window": [1.0]})
        assert not torch.equal(model.raw(clean, 2.0, [condition]), before)
    assert list(model.unet.state_dict()) == names
    assert torch.equal(model.raw(clean, 2.0, [condition]), before)


def test_peft_reads_a_saved_adapter(
    model: Any, adapters: lora.Adapters, clean: Any, condition: Any, tiny_svd: Path, tmp_path: Path
) -> None:
    weighty(adapters, "window", 1)
    adapters.act({"window": [1.0]})
    ours = model.raw(clean, 2.0, [condition])
    lora.save(tmp_path, adapters.weights("window"))
    unet = diffusers.UNetSpatioTemporalConditionModel.from_pretrained(tiny_svd / "unet")
    theirs = peft.PeftModel.from_pretrained(unet, tmp_path).eval()
    latent = condition.latent[:, None].expand(-1, 6, -1, -1, -1)
    sample = torch.cat([schedule.c_in(2.0) * clean, latent], dim=2)
    output = theirs(sample, schedule.c_noise(2.0), condition.token, condition.time_ids).sample
    torch.testing.assert_close(output, ours, atol=3e-5, rtol=0)


# Training.


def network(model: Any, condition: Any) -> training.Network:
    return lambda x, sigma: model.raw(x, sigma, [condition])


def trained(model: Any, condition: Any, clean: Any, **given: Any) -> dict[str, Any]:
    with lora.Adapters(model.unet, rank=4) as adapters:
        adapters.add("window", seed=1)
        adapters.act({"window": [1.0]})
        training.train(network(model, condition), adapters, "window", clean, SETTINGS, **given)
        return {key: value.clone() for key, value in adapters.weights("window").items()}


def test_noise_levels_are_the_interpolated_cosine_ones() -> None:
    levels = training.interpolated_cosine(torch.linspace(0, 1, 100_001, dtype=torch.float64)[1:-1])
    quantiles = torch.quantile(levels, torch.tensor([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]).double())
    expected = torch.tensor([0.0099, 0.087, 0.25, 0.71, 2.0, 5.9, 12.0, 58.0]).double()
    torch.testing.assert_close(quantiles, expected, rtol=0.03, atol=0)
    ends = training.interpolated_cosine(torch.tensor([0.0, 1.0]).double())
    torch.testing.assert_close(ends, torch.tensor([0.002, 700.0]).double(), rtol=1e-6, atol=0)


def test_plain_loss_equals_weighted_denoising_loss(model: Any, condition: Any, clean: Any) -> None:
    noise = torch.randn_like(clean)
    for level in (0.05, 0.7, 20.0):
        sigma = torch.tensor(level)
        noisy = clean + sigma * noise
        output = model.raw(noisy, sigma, [condition])
        estimate = schedule.denoised(noisy.double(), output, sigma.double())
        weighted = ((1 + level**2) / level**2 * (estimate - clean) ** 2).mean()
        plain = training.loss_of(network(model, condition), clean, noise, sigma)
        assert float(plain) == pytest.approx(float(weighted), rel=1e-4)


def test_training_lowers_the_loss_and_moves_each_layer(model: Any, condition: Any, clean: Any) -> None:
    settings = training.TrainingSettings(steps=12, rate=1e-2, checkpoint=4, early=True)
    with lora.Adapters(model.unet, rank=4) as adapters:
        adapters.add("window", seed=1)
        adapters.act({"window": [1.0]})
        progress = training.train(network(model, condition), adapters, "window", clean, settings)
        weights = adapters.weights("window")
    assert progress.losses[-1] < progress.losses[0]
    moved = [bool(value.any()) for key, value in weights.items() if "lora_B" in key]
    assert all(moved)


def test_resumed_training_equals_uninterrupted_one(model: Any, condition: Any, clean: Any) -> None:
    states: list[Any] = []
    whole = trained(model, condition, clean, save=states.append)
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt

    saved: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        trained(model, condition, clean, check=stop, save=saved.append)
    assert [int(state["step"][0]) for state in saved] == [2]
    resumed = trained(model, condition, clean, resumed=saved[-1])
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert [int(state["step"][0]) for state in states] == [2, 4, 6]


def test_training_stops_early_on_a_plateau(model: Any, condition: Any, clean: Any) -> None:
    def steps(early: bool) -> int:
        with lora.Adapters(model.unet, rank=4) as adapters:
            adapters.add("window", seed=1)
            adapters.act({"window": [1.0]})
            settings = training.TrainingSettings(steps=12, rate=0.0, checkpoint=2, early=early)
            return training.train(network(model, condition), adapters, "window", clean, settings).step

    assert steps(early=True) == 10  # four checkpoints after the first
    assert steps(early=False) == 12


def test_slow_progress_is_no_plateau() -> None:
    """A loss that falls by a third in 250 steps, a percent or two at each checkpoint, and jitters."""
    falling = [1.0 * (2 / 3) ** (n / 10) + 0.004 * (-1) ** n for n in range(10)]
    assert not any(training.Progress(losses=falling[:n]).is_flat() for n in range(len(falling) + 1))
    assert training.Progress(losses=[*falling, *[falling[-1]] * 4]).is_flat()


def test_plateau_is_looked_for_where_motion_is_decided() -> None:
    levels = training.interpolated_cosine(torch.tensor(training.PROBES))
    assert levels.min() < 0.1
    assert levels.max() > 70


def test_dropout_applies_while_training_only(model: Any, adapters: lora.Adapters, clean: Any, condition: Any) -> None:
    weighty(adapters, "window", 1)
    adapters.act({"window": [1.0]})
    once, again = (model.raw(clean, 2.0, [condition]) for _ in range(2))
    assert torch.equal(once, again)
    adapters.training = True
    assert not torch.equal(model.raw(clean, 2.0, [condition]), once)
