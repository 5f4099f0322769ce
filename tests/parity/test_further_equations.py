"""What the recorded vectors do not cover, against independent writings of the equations: training with the first
window's keys and values, VP4's offset prompt and self-attention cloning, the anchored handover, and half precision.

Nothing of Paintover is called on the reference's side but the networks themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from paintover_engine.diffusion import (  # noqa: E402
    blending,
    cloning,
    i2vedit,
    inpaint,
    lora,
    svd,
    training,
    videoshop,
)

from tests.parity.vectors import (  # noqa: E402
    TINY_INPAINT,
    TINY_SVD,
    Vectors,
    assert_close,
    pictures,
    tensor,
    vectors,
)

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def reference() -> Vectors:
    torch.set_num_threads(1)
    return vectors("i2vedit")


@pytest.fixture(scope="module")
def model() -> svd.VideoModel:
    return svd.VideoModel(TINY_SVD, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def grids() -> inpaint.InpaintModel:
    return inpaint.load(TINY_INPAINT, TINY_INPAINT / "clip", "cpu")


# Training that sees the first window.


class FirstWindow:
    """Temporal self-attention written anew: softmax(Q [K_1; K]ᵀ/√d) [V_1; V]. seen: K_1 and V_1, once recorded."""

    def __init__(self) -> None:
        self.seen: tuple[Any, Any] | None = None

    def __call__(self, attn: Any, hidden: Any, *_: Any, **__: Any) -> Any:
        rows, frames, _ = hidden.shape
        query, key, value = (
            project(hidden).view(rows, frames, attn.heads, -1).permute(0, 2, 1, 3)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        if self.seen is None:
            self.seen = key, value
        else:
            key, value = (torch.cat(pair, dim=2) for pair in zip(self.seen, (key, value), strict=True))
        weights = torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), dim=-1)
        return attn.to_out[0]((weights @ value).permute(0, 2, 1, 3).reshape(rows, frames, -1))


def network(unet: Any, x: Any, sigma: float, condition: svd.Condition) -> Any:
    """F at (c_in x ⊕ condition; ¼ ln σ)."""
    given = torch.cat([x / math.sqrt(sigma**2 + 1), condition.latent[:, None].expand(-1, x.shape[1], -1, -1, -1)], 2)
    return unet(given, torch.tensor(0.25 * math.log(sigma)), condition.token, condition.time_ids).sample


def expected_loss(
    unet: Any, windows: tuple[Any, Any], conditions: tuple[Any, Any], drawn: tuple[Any, float], place: int,
    at: list[float], adapter: Any,
) -> float:  # fmt: skip
    """(1 + σ²)/σ² |D - z|² of the second window, whose temporal layers see the first's at level `at[place]`."""
    (first, z), (noise, sigma) = windows, drawn
    blocks = [module for module in unet.modules() if hasattr(module, "temporal_transformer_blocks")]
    attentions = [block.attn1 for module in blocks for block in module.temporal_transformer_blocks]
    before = [attention.processor for attention in attentions]
    try:
        for attention in attentions:
            attention.set_processor(FirstWindow())
        adapter(False)
        with torch.no_grad():
            network(unet, first[place][None], at[place], conditions[0])
            adapter(True)
            x = z + sigma * noise
            output = network(unet, x, sigma, conditions[1])
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.set_processor(processor)
    denoised = x / (sigma**2 + 1) - sigma / math.sqrt(sigma**2 + 1) * output
    return float(((1 + sigma**2) / sigma**2 * (denoised - z) ** 2).mean())


@pytest.mark.parametrize("lower", [False, True])
def test_training_sees_the_first_window(
    model: svd.VideoModel, reference: Vectors, monkeypatch: pytest.MonkeyPatch, lower: bool
) -> None:
    """lower: the published code's records, one level below."""
    sigmas = model.config.sigmas(len(reference["sigmas"]) - 1)
    levels = [*reference["sigmas"][:-1].tolist(), float(reference["sigmas"][-2] ** 2 / reference["sigmas"][-3])]
    conditions = tuple(
        svd.Condition(
            tensor(reference[f"window{k}_token"])[None], tensor(reference[f"window{k}_condition"]),
            torch.tensor([[6.0, 127.0, 0.02]]),
        )
        for k in (1, 2)
    )  # fmt: skip
    first, z = tensor(reference["window1_inversion"]), tensor(reference["window2_latents"])[None]
    found: list[tuple[Any, float, float]] = []
    loss_of = training.loss_of

    def recording(net: Any, clean: Any, noise: Any, sigma: Any) -> Any:
        loss = loss_of(net, clean, noise, sigma)
        found.append((noise, float(sigma), float(loss.detach())))
        return loss

    monkeypatch.setattr(training, "loss_of", recording)
    monkeypatch.setattr(lora, "DROPOUT", 0.0)
    weights = {}
    for key, value in reference.items():
        if key.startswith("window2_adapter|"):
            _, layer, part = key.split("|")
            weights[f"base_model.model.{layer}.lora_{part}.weight"] = tensor(value)
    with lora.Adapters(model.unet, rank=2) as adapters:
        adapters.add("window", weights)
        settings = training.TrainingSettings(steps=3, rate=0.0, decay=0.0)
        source = i2vedit.SourceWindow(first, conditions[0])
        i2vedit.train(model, adapters, z, conditions[1], settings, first=source, lower_first_level=lower, sigmas=sigmas)
        assert len(found) == 3
        for noise, sigma, loss in found:
            above = [index for index, level in enumerate(levels) if level >= sigma]
            place = min((above[-1] if above else 0) + lower, len(levels) - 1)
            expected = expected_loss(
                model.unet, (first, z), conditions, (noise, sigma), place, levels,
                lambda acts: adapters.act({"window": [1.0]} if acts else {}),
            )  # fmt: skip
            assert loss == pytest.approx(expected, rel=1e-4)


# VP4.


def test_offset_prompt_equals_the_equation(grids: inpaint.InpaintModel) -> None:
    """H + 1 ⊗ W⁺ (λ1 |W h| d) from the end of the text on, in float64."""
    reference = vectors("vp4")
    before, after = (pictures(reference[f"grid_{name}"][None]) for name in ("exemplar", "painted"))
    found = grids.exemplar(before, after, 0.7, "offset")
    embedded = [np.asarray(grids.embed(picture)[0], np.float64) for picture in (before, after)]
    unit = [embedding / np.sqrt((embedding**2).sum()) for embedding in embedded]
    hidden = np.asarray(grids.text.hidden[0], np.float64)
    projection = np.asarray(grids.text.projection.detach(), np.float64)
    length = np.sqrt(((projection @ hidden[grids.text.end]) ** 2).sum())
    wanted = 0.7 * length * (unit[1] - unit[0])
    u, s, vt = np.linalg.svd(projection)
    inverse = sum(np.outer(vt[i], u[:, i]) / s[i] for i in range(len(s)) if s[i] > 1e-3 * s[0])
    expected = hidden.copy()
    for token in range(grids.text.end, len(hidden)):
        expected[token] += inverse @ wanted
    assert_close(found.prompt[0], expected, 1e-4)
    assert np.abs(expected - hidden).max() > 0.1


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12)])
def test_cloning_equals_the_equation(grids: inpaint.InpaintModel, height: int, width: int) -> None:
    """Scores between A' and B' := s · those between A and B, both ways, before the softmax; token by token."""
    attention = next(module for name, module in grids.unet.named_modules() if name.endswith("attn1"))
    channels, heads, scale = attention.to_q.in_features, attention.heads, 1.3
    states = np.random.default_rng(3).normal(size=(height * width, channels))

    def project(layer: Any) -> Array:
        weight = np.asarray(layer.weight.detach(), np.float64)
        return (states @ weight.T).reshape(height * width, heads, -1)

    query, key, value = (project(layer) for layer in (attention.to_q, attention.to_k, attention.to_v))

    def cell(row: int, column: int) -> str:
        return {(0, 0): "A", (0, 1): "A'", (1, 0): "B", (1, 1): "B'"}[2 * row // height, 2 * column // width]

    def token(name: str, row: int, column: int) -> int:
        """The place in a cell, as a token of the grid."""
        return (row + (height // 2) * name.startswith("B")) * width + column + (width // 2) * name.endswith("'")

    joined = np.zeros((height * width, heads, query.shape[2]))
    for head in range(heads):
        scores = query[:, head] @ key[:, head].T / math.sqrt(query.shape[2])
        cloned = scores.copy()
        for i in range(height * width):
            for j in range(height * width):
                here, there = cell(*divmod(i, width)), cell(*divmod(j, width))
                if {here, there} == {"A'", "B'"}:
                    (r1, c1), (r2, c2) = ((n // width % (height // 2), n % width % (width // 2)) for n in (i, j))
                    cloned[i, j] = scale * scores[token(here[0], r1, c1), token(there[0], r2, c2)]
        maps = np.exp(cloned - cloned.max(1, keepdims=True))
        joined[:, head] = (maps / maps.sum(1, keepdims=True)) @ value[:, head]
    out = attention.to_out[0]
    expected = joined.reshape(height * width, -1) @ np.asarray(out.weight.detach(), np.float64).T
    expected += np.asarray(out.bias.detach(), np.float64)
    with torch.no_grad():
        found = cloning.Cloning(scale, height, width)(attention, torch.from_numpy(states).float()[None])
    assert_close(found[0], expected, 1e-5)


# The anchored handover.


def test_anchored_handover_equals_the_equation() -> None:
    """m e + (1 - m) p, m of a latent the matte's highest within two latents around it."""
    rng = np.random.default_rng(4)
    edited, plate = rng.normal(size=(2, 4, 7, 9))
    matte = (rng.random((14, 18)) ** 8) * (rng.random((14, 18)) > 0.9)
    expected = np.empty_like(edited)
    for row in range(7):
        for column in range(9):
            rows, columns = (
                slice(max(0, 2 * (row - 2)), 2 * (row + 3)),
                slice(max(0, 2 * (column - 2)), 2 * (column + 3)),
            )
            m = matte[rows, columns].max()
            expected[:, row, column] = m * edited[:, row, column] + (1 - m) * plate[:, row, column]
    found = blending.anchored(tensor(edited)[None], tensor(plate)[None], tensor(matte)[None, None])
    assert_close(found[0], expected, 1e-6)


# Half precision.


def test_half_precision_is_near_the_published_code() -> None:
    """Videoshop's inversion, network in half precision, noise arithmetic in float32."""
    reference = vectors("videoshop")
    half = svd.VideoModel(TINY_SVD, torch.device("cpu"), torch.float16)
    sigmas = videoshop.levels(half.config, 25, 0.55)
    condition = svd.Condition(
        tensor(reference["source_token"])[:, None],
        tensor(reference["source_condition"]),
        torch.tensor([[6.0, 127.0, 0.2]]),
    )
    normalisation = videoshop.Normalisation.of(tensor(reference["latents"])[None], "frame")
    x0, noise = normalisation.apply(tensor(reference["latents"])[None]), tensor(reference["noise_inversion"])
    states = torch.cat(videoshop.extrapolated(half.denoiser(condition), x0, sigmas, noise))
    assert_close(states, reference["default_inversion"], 0.01)
    assert float((states - tensor(reference["default_inversion"])).abs().max()) > 0  # it was half precision
