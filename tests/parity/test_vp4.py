"""VP4 against an independent writing of the paper's equations, with closed-form networks, and on grids through a
network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from paintover_engine.diffusion import ddim, inpaint, svgd, vp4  # noqa: E402

from tests.parity.vectors import (  # noqa: E402
    TINY_INPAINT,
    Vectors,
    assert_close,
    assert_levels_close,
    pictures,
    tensor,
    vectors,
)

LAMBDA1, LAMBDA2, ETA, ITERATIONS = 0.7, 1.2, 2.0, 50
GUIDANCE, STRENGTH = 3.0, 0.8


@pytest.fixture(scope="module")
def reference() -> Vectors:
    return vectors("vp4")


@pytest.fixture(scope="module")
def model() -> inpaint.InpaintModel:
    torch.set_num_threads(1)
    return inpaint.load(TINY_INPAINT, TINY_INPAINT / "clip", "cpu")


@pytest.fixture(scope="module")
def schedule(reference: Vectors) -> list[ddim.Level]:
    return [ddim.Level(int(t), float(a)) for t, a in zip(reference["times"], reference["alphas"], strict=True)]


def closed_form(reference: Vectors, z: Any, a: float, which: str) -> Any:
    """The noise in z where every pixel of a picture is m - s or m + s, alike often, with a Gaussian of a variance v."""
    m = reference[f"mean_{which}"].astype(np.float64)
    v, s = float(reference["variance"]), float(reference["spread"])
    x = z.numpy().astype(np.float64)
    total, away = a * v + 1 - a, x - a**0.5 * m
    clean = m + (v * a**0.5 * away + (1 - a) * s * np.tanh(a**0.5 * s * away / total)) / total
    return tensor((x - a**0.5 * clean) / (1 - a) ** 0.5)


def test_levels_equal_the_equations(reference: Vectors) -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = torch.from_numpy(np.cumprod(1 - betas).astype(np.float32))
    levels = ddim.levels(alphas, len(reference["times"]), STRENGTH)
    assert [level.t for level in levels] == reference["times"].tolist()
    assert_close(np.array([level.a for level in levels]), reference["alphas"], 1e-6)


@pytest.mark.parametrize(("name", "lambda2"), [("ccs", LAMBDA2), ("ddcm", 1.0)])
def test_content_consistency_equals_the_equations(
    reference: Vectors, schedule: list[ddim.Level], name: str, lambda2: float
) -> None:
    alphas = {level.t: level.a for level in schedule}
    visited: list[Any] = []

    def estimates(z_edit: Any, z_source: Any, t: int, noise: Any) -> tuple[Any, Any]:
        visited.append(z_edit)
        return tuple(
            closed_form(reference, z, alphas[t], which) for z, which in ((z_edit, "edit"), (z_source, "source"))
        )

    clean = []
    for step in reference["ccs_clean_steps"]:
        visited.clear()
        clean.append(
            vp4.consistency_sampling(
                estimates, tensor(reference["source"]), schedule[: step + 1],
                lambda step: tensor(reference["noise"][step]), lambda2,
            )
        )  # fmt: skip
    assert_levels_close(clean, reference[f"{name}_clean"], 2.5e-6)
    noisy = [visited[step - 1] for step in reference["ccs_noisy_steps"]]
    assert_levels_close(noisy, reference[f"{name}_noisy"], 2.5e-6)


def test_consistency_function_inverts_its_noise(reference: Vectors, schedule: list[ddim.Level]) -> None:
    source = tensor(reference["source"])
    a, z = schedule[3].a, source + tensor(reference["noise"][0])
    assert_close(ddim.consistent(z, ddim.consistency_noise(z, source, a), a), reference["source"], 2.5e-6)


def test_plain_ddim_equals_the_equations(reference: Vectors, schedule: list[ddim.Level]) -> None:
    alphas = {level.t: level.a for level in schedule}
    result = ddim.ddim(
        lambda z, t: closed_form(reference, z, alphas[t], "edit"), tensor(reference["source"]), schedule,
        lambda step: tensor(reference["noise"][step]),
    )  # fmt: skip
    assert_close(result, reference["ddim_result"], 2.5e-6)


@pytest.mark.parametrize(("name", "particles"), [("repulsion", "edited"), ("close_repulsion", "close")])
def test_repulsion_equals_the_equations(reference: Vectors, name: str, particles: str) -> None:
    assert_close(svgd.repulsion(tensor(reference[particles])), reference[name], 4e-6)


def after_iterations(reference: Vectors, smooth: Any) -> list[Any]:
    """Results after each of the recorded numbers of iterations, with the step size of `ITERATIONS`."""
    return [smooth(steps=int(n), eta=ETA * int(n) / ITERATIONS) for n in reference["svgd_iterations"]]


def test_residual_svgd_equals_the_equations(reference: Vectors) -> None:
    edited, source = tensor(reference["edited"]), tensor(reference["source"])
    count, _, height, width = source.shape
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([(xs + 0.5) * 2 / width - 1, (ys + 0.5) * 2 / height - 1], -1).float()
    offsets = tuple(reference["offsets"].tolist())
    still = pixels.expand(len(offsets), count, -1, -1, -1)
    around, held = svgd.Neighbours(offsets, still, tensor(reference["weights"])), torch.from_numpy(reference["held"])
    results = after_iterations(reference, lambda **given: svgd.smoothed(edited, source, around, held, **given))
    assert_levels_close(results, reference["svgd_residual"], 2.5e-6)


def test_residual_svgd_follows_the_motion(reference: Vectors) -> None:
    moving, edited = tensor(reference["moving"]), tensor(reference["edited_moving"])
    count, _, height, width = moving.shape
    ahead = torch.zeros(count - 1, height, width, 2)
    ahead[..., 0] = 1
    around, none = svgd.neighbours(moving, ahead, -ahead), torch.zeros(count, dtype=torch.bool)
    results = after_iterations(reference, lambda **given: svgd.smoothed(edited, moving, around, none, **given))
    assert_levels_close(results, reference["svgd_moving"], 1e-6)


def test_grid_encodings_equal_the_equations(model: inpaint.InpaintModel, reference: Vectors) -> None:
    assert_close(model.encode(pictures(reference["grid_frames"])), reference["grid_cells"], 7e-6)
    before, after = (pictures(reference[f"grid_{name}"][None]) for name in ("exemplar", "painted"))
    exemplar = model.exemplar(before, after, LAMBDA1, "literal")
    assert_close(exemplar.source, reference["grid_first"], 7e-6)
    assert_close(exemplar.edited, reference["grid_edited"], 7e-6)
    assert_close(exemplar.prompt, reference["grid_prompt"], 3e-5)  # equation 3
    assert_close(exemplar.null, reference["grid_null"], 3e-5)


def test_sampling_on_grids_equals_the_equations(model: inpaint.InpaintModel, reference: Vectors) -> None:
    before, after = (pictures(reference[f"grid_{name}"][None]) for name in ("exemplar", "painted"))
    exemplar = model.exemplar(before, after, LAMBDA1, "literal")
    steps = len(reference["grid_times"])
    schedule = ddim.levels(model.alphas, steps, STRENGTH)
    assert [level.t for level in schedule] == reference["grid_times"].tolist()
    index = {level.t: step for step, level in enumerate(schedule)}

    class Prompt(vp4.VisualPrompt):
        def cell_noise(self, step: int, cell: str) -> Any:
            return tensor(reference[f"grid_noise_{cell}"][step if cell == "answer" else index[step]])

    inputs: list[Any] = []
    hook = model.unet.register_forward_pre_hook(lambda module, args: inputs.append(args[0][:1]))
    source = tensor(reference["grid_cells"])
    prompt = Prompt(model, exemplar, source, vp4.VP4Settings(guidance=GUIDANCE))
    clean = [
        vp4.consistency_sampling(prompt.estimates, source, schedule[: step + 1], prompt.draw, LAMBDA2)
        for step in range(steps)
    ]
    hook.remove()
    assert_close(inputs[0], reference["grid_input"], 2e-6)
    assert_levels_close(clean, reference["grid_clean"], 2e-5)


def equation_8(edited: NDArray[Any], source: NDArray[Any], steps: int, eta: float) -> NDArray[Any]:
    """Equation 8 written anew, frame by frame in float64: x_i += η/N (Σ_j ∇ log p(x_j) + Σ_j ∇_{x_j} k(x_j, x_i)).

    p: the density that a kernel exp(-|x - s|²/h) makes of the source's frames; k: the same kernel between particles; h:
    the median of the squared distances of two different frames over log(N + 1)."""
    shape, count = edited.shape, len(edited)
    x, samples = (frames.reshape(count, -1).astype(np.float64) for frames in (edited, source))

    def bandwidth(points: NDArray[Any]) -> float:
        squares = sorted(
            float(((a - b) ** 2).sum()) for i, a in enumerate(points) for j, b in enumerate(points) if i != j
        )
        return squares[(len(squares) - 1) // 2] / math.log(count + 1)

    h = bandwidth(samples)

    def log_density(point: NDArray[Any]) -> float:
        return math.log(sum(math.exp(-float(((point - s) ** 2).sum()) / h) for s in samples))

    def gradient(point: NDArray[Any]) -> NDArray[Any]:
        weights = [math.exp(-float(((point - s) ** 2).sum()) / h - log_density(point)) for s in samples]
        return sum(w * -2 * (point - s) / h for w, s in zip(weights, samples, strict=True))

    for _ in range(steps):
        drive, k_h = sum(gradient(point) for point in x) / count, bandwidth(x)
        pushes = [sum(-2 * (b - a) / k_h * math.exp(-float(((b - a) ** 2).sum()) / k_h) for b in x) / count for a in x]
        x = np.stack([a + eta * (drive + push) for a, push in zip(x, pushes, strict=True)])
    return x.reshape(shape)


@pytest.mark.parametrize(("steps", "eta"), [(1, 2.0), (10, 2.0), (50, 2.0), (50, 0.04)])
def test_literal_svgd_equals_equation_8(reference: Vectors, steps: int, eta: float) -> None:
    edited, source = reference["edited"], reference["source"]
    result = svgd.literal(tensor(edited), tensor(source), steps=steps, eta=eta)
    assert_close(result, equation_8(edited, source, steps, eta), 5e-5)
