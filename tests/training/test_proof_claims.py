"""What Videoshop's and I2VEdit's parts are worth on the proof model: means of sixteen clips, beyond two standard errors
of the differences clip by clip. Eight noise levels, where docs/benchmarks.md has twenty-five."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from paintover_engine.diffusion import i2vedit, sarp, svd
from paintover_engine.diffusion.schedule import initial_scale
from paintover_evaluation import motions

FOLDER = Path(__file__).resolve().parents[2] / "training" / "proof-svd"
CLIPS, STEPS = 16, 8

pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.timeout(400), pytest.mark.usefixtures("on_the_path")]


def settled(better: Sequence[float], worse: Sequence[float], least: float) -> bool:
    """Whether `better` is the greater by at least that much on the mean, and by more than two standard errors."""
    more = np.subtract(better, worse)
    return bool(more.mean() >= least and more.mean() > 2 * more.std(ddof=1) / len(more) ** 0.5)


@pytest.fixture(scope="module")
def brought_back(on_the_path: None) -> Callable[..., list[float]]:
    """dB of the unedited clips, inverted and denoised by Videoshop with some parameters."""
    videoshop = importlib.import_module("videoshop")
    cases = videoshop.cases(CLIPS, 90_000, "motions")

    @functools.cache
    def result(**parameters: Any) -> list[float]:
        results = ((plain.repainted(str(FOLDER), steps=STEPS, **parameters), case) for case, _, plain in cases)
        return [videoshop.psnr(painted[1:] - case.source[1:]) for painted, case in results]

    return result


@pytest.mark.parametrize(
    ("left_out", "least"),
    [({"inversion": "noise"}, 4), ({"rescaling": "none"}, 4), ({"normalisation": "none"}, 0.5)],
)
def test_videoshop_brings_clips_back_by_its_parts(
    brought_back: Callable[..., list[float]], left_out: dict[str, str], least: float
) -> None:
    assert settled(brought_back(), brought_back(**left_out), least)


def test_extrapolated_inversion_brings_clips_back_better_than_naive(brought_back: Callable[..., list[float]]) -> None:
    assert settled(brought_back(), brought_back(inversion="naive"), 0.2)


@pytest.fixture(scope="module")
def benchmark(on_the_path: None) -> Any:
    return importlib.import_module("i2vedit")


@pytest.fixture(scope="module")
def bench(benchmark: Any) -> Any:
    return benchmark.Bench(svd.load(FOLDER, "cpu"), STEPS, 0)


@pytest.fixture(scope="module")
def clips(benchmark: Any) -> list[motions.MotionCase]:
    """Of motions that training held out."""
    rng = np.random.default_rng(1)
    return [motions.random_case(rng, benchmark.HELD_OUT[n % 2]) for n in range(CLIPS)]


def test_attention_matching_holds_a_clip_to_its_source(
    benchmark: Any, bench: Any, clips: list[motions.MotionCase]
) -> None:
    """dB of a clip whose first frame was not edited."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for clip in clips:
        source = bench.source(clip.source, benchmark.Variant(""))
        for matching, values in found.items():
            style = i2vedit.EditSettings(matching=matching)
            states = i2vedit.denoise(bench.model, source, source.condition, bench.sigmas, style)
            values.append(benchmark.psnr(bench.video(states[-1:]), clip.source))
    assert settled(found[True], found[False], 0.5)


def test_perturbation_makes_the_implied_noise_of_flat_clips_gaussian(
    benchmark: Any, bench: Any, clips: list[motions.MotionCase]
) -> None:
    """Anderson and Darling's A² of all latents at the noisiest level."""

    def squares(perturbed: bool) -> list[float]:
        variant = benchmark.Variant("", perturbed=perturbed)
        states = (bench.source(clip.clip.flattened().render(), variant).states[0] for clip in clips)
        return [sarp.anderson_darling(state / initial_scale(bench.sigmas[0])) for state in states]

    with_it, without = squares(True), squares(False)
    assert settled(without, with_it, 5)
    assert np.mean(with_it) < 3
