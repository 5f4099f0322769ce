"""VP4: an edit, shown once by a pair of pictures, applied to every frame of a clip, without inversion or training.

VP4: visual prompting for video editing, CVPR 2025. No code of the authors is public: what the paper leaves open is
ours, and docs/methods/vp4.md says what and why. `edit` is the whole method on a run of frames; its steps follow.

Symbols:
    A, A'          the shown pair: the keyframe's frame before and after the edit
    B, B'          a frame, the question, and the edited frame, the answer that is sampled
    z_0^s, z_0^e   clean latents (B, 4, h, w) of B and of B', times the VAE's scale
    z^s, z^e       the same with noise: z = √a z_0 + √(1 - a) n at a time step of cumulative alpha a
    ε_src, ε_edit  the network's estimates of the noise in z^s without the edit, and in z^e with it
    λ1, λ2, η      weights of the edit's direction and of the noise calibration; step size of temporal consistency

The network sees a 2×2 grid of cells, A A' above B B', and its prompt is the direction of the edit in CLIP's space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paintover_engine.diffusion import clip_direction, ddim, svgd
from paintover_engine.diffusion.ddim import Draw, Level, noised
from paintover_engine.diffusion.denoiser import require_finite
from paintover_engine.diffusion.inpaint import Exemplar, InpaintModel, answer, grid, question

Branches = Literal["unedited", "same", "region"]

Estimates = Callable[[Tensor, Tensor, int, Tensor], tuple[Tensor, Tensor]]
"""`estimates(z_edit, z_source, t, noise)`: ε_edit and ε_src at time step t, of the latents' shape. noise: the n of both
latents, which broadcasts to them."""

_REMEDY = "less guidance, or a model in another precision,"


@dataclass(frozen=True)
class VP4Settings:
    """The paper's values; where it gives none, ours.

    steps, strength: noise levels, and the share of the schedule that they span, 0..1. lambda1, lambda2: λ1 and λ2.
    prompt: how the edit's direction becomes one (`clip_direction.prompt`). branches: how ε_src is found
    (`VisualPrompt.estimates`). guidance: classifier-free, of ε_edit. cloning: scale of self-attention cloning
    (`cloning`), 0 for none. consistency_steps, eta: of temporal consistency. seed: of all noise."""

    steps: int = 30
    strength: float = 0.8
    lambda1: float = 0.7
    lambda2: float = 1.2
    prompt: clip_direction.Reading = "offset"
    branches: Branches = "unedited"
    guidance: float = 7.5
    cloning: float = 0.0
    consistency_steps: int = 50
    eta: float = 2.0
    seed: int = 42


class FlowPair(NamedTuple):
    """Optical flow (N - 1, h, w, 2) in latents: from frame i to i + 1, and from i + 1 to i."""

    forward: Tensor
    backward: Tensor


def edit(
    model: InpaintModel, pair: tuple[Tensor, Tensor], source: Tensor, motion: FlowPair, settings: VP4Settings
) -> Tensor:
    """VP4 on the frames after a keyframe: their edited clean latents, of the shape of `source`.

    pair: A and A', pictures (1, 3, H, W) in -1..1. source: z_0^s (N, 4, h, w) of the frames. motion: between the N + 1
    frames from the keyframe on."""
    # The visual prompt: A and A', and the edit's direction (equation 3).
    exemplar = model.exemplar(*pair, settings.lambda1, settings.prompt)
    visual_prompt = VisualPrompt(model, exemplar, source, settings)

    # Content-consistency sampling of every frame (section 3.2, equation 7).
    schedule = ddim.levels(model.alphas, settings.steps, settings.strength)
    edited = consistency_sampling(visual_prompt.estimates, source, schedule, visual_prompt.draw, settings.lambda2)

    # Temporal-content consistency (equation 8, on edits instead of frames). The keyframe, whose edit is known, is held.
    z_e, z_s = torch.cat([exemplar.edited, edited]).cpu(), torch.cat([exemplar.source, source]).cpu()
    held = torch.arange(len(z_s)) == 0
    around = svgd.neighbours(z_s, *motion)
    return svgd.smoothed(z_e, z_s, around, held, steps=settings.consistency_steps, eta=settings.eta)[1:]


def consistency_sampling(
    estimates: Estimates, source: Tensor, schedule: Sequence[Level], draw: Draw, lambda2: float
) -> Tensor:
    """Content-consistency sampling: z_0^e from z_0^s, both (B, 4, h, w), without inversion (section 3.2).

    DDIM with σ = √(1 - a'), so that nothing of the old noise stays: each step takes the clean latents from the noise by
    the consistency function f (`ddim.consistent`) and adds fresh noise n, one for both branches. Equation 7, noise
    calibration, with ε_cons the consistency noise, which f takes from z^s to z_0^s (`ddim.consistency_noise`):

        z_0^e = f(z^e, ε_cons + λ2 (ε_edit - ε_src))

    The first level's z_0^e is z_0^s by rule, without a call of the network. Where ε_edit = ε_src, the source comes back
    bit for bit; with λ2 = 1 this is DDCM (Xu et al.: InfEdit, CVPR 2024)."""
    z0_src = z0_edit = source
    for step, level in enumerate(schedule[1:], start=1):
        a, n = level.a, draw(step)
        z_src, z_edit = noised(z0_src, n, a), noised(z0_edit, n, a)
        eps_edit, eps_src = estimates(z_edit, z_src, level.t, n)
        # f and ε_cons put together, which leaves no rounding where the estimates are equal.
        z0_edit = z0_src + ((z_edit - z_src) - (1 - a) ** 0.5 * lambda2 * (eps_edit - eps_src)) / a**0.5
    return z0_edit


class _Grid(NamedTuple):
    """A grid that the network is evaluated on: the shown pair, the answer's noisy cell (B, 4, h, w), and the prompt
    (1, tokens, width)."""

    shown: Exemplar
    answer: Tensor
    prompt: Tensor


class VisualPrompt:
    """The grids that apply a shown edit to some frames, and the network's estimates of the noise in their answers.

    source: (B, 4, h, w), z_0^s of the frames. check: called before each call of the network; raises to stop. frames:
    which they are, in words, for errors. Only the answers' cells are sampled: the three others are known, and are
    noised anew at every step."""

    def __init__(
        self,
        model: InpaintModel,
        shown: Exemplar,
        source: Tensor,
        settings: VP4Settings,
        check: Callable[[], None] = lambda: None,
        frames: str = "the frames",
    ) -> None:
        self._model, self._shown, self._source, self._settings = model, shown, source, settings
        self._check, self._frames = check, frames
        height, width = (side * model.factor for side in source.shape[-2:])
        self._grey = model.encode(source.new_zeros(1, 3, height, width))
        self._noise = self.draw(0)
        model.clone_attention(settings.cloning, *(2 * side for side in source.shape[-2:]))

    def draw(self, step: int) -> Tensor:
        """(1, 4, h, w): a step's noise in the answers' cells, shared by all frames and both branches."""
        return self.cell_noise(step, "answer")

    def cell_noise(self, step: int, cell: str) -> Tensor:
        """(1, 4, h, w): standard normal noise of a cell: "answer" at a step, "before" (A) or "after" (A') at a time
        step. Independent for each seed; the same on every device."""
        seed = [self._settings.seed, step, *cell.encode()]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        return torch.randn((1, *self._source.shape[1:]), generator=generator).to(self._source.device)

    def estimates(self, z_edit: Tensor, z_source: Tensor, t: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        """ε_edit and ε_src, (B, 4, h, w). ε_src, by `settings.branches`: unedited: of a second grid whose pair is A, A
        under the empty prompt; same: of the same grid under the empty prompt; region: of the same grid's cell B."""
        self._noise = noise
        if self._settings.branches == "region":
            (edited,) = self._edited(z_edit, t)
            return answer(edited), question(edited)
        shown = self._shown if self._settings.branches == "same" else self._shown.unedited()
        edited, unedited = self._edited(z_edit, t, _Grid(shown, z_source, shown.null))
        return answer(edited), answer(unedited)

    def estimate(self, z_edit: Tensor, t: int) -> Tensor:
        """ε_edit alone, for plain DDIM."""
        return answer(self._edited(z_edit, t)[0])

    def _edited(self, z_edit: Tensor, t: int, *others: _Grid) -> list[Tensor]:
        """The noise in whole grids (B, 4, 2h, 2w): the edit's, guided away from the empty prompt, then the others'."""
        grids = [_Grid(self._shown, z_edit, self._shown.prompt), *others]
        scale = self._settings.guidance
        if scale == 1:
            return self._predict(grids, t)
        conditional, *rest, unconditional = self._predict([*grids, _Grid(self._shown, z_edit, self._shown.null)], t)
        return [unconditional + scale * (conditional - unconditional), *rest]

    def _predict(self, grids: Sequence[_Grid], t: int) -> list[Tensor]:
        """The network's estimates for each grid, (B, 4, 2h, 2w), in one pass."""
        self._check()
        a, count = float(self._model.alphas[t]), len(self._source)
        bottom_left = noised(self._source, self._noise, a)  # the answer's noise, which `region` relies on
        noisy, masked, prompts = [], [], []
        for shown, z, prompt in grids:
            top_left = noised(shown.source, self.cell_noise(t, "before"), a)
            top_right = noised(shown.edited, self.cell_noise(t, "after"), a)
            noisy.append(grid(top_left, top_right, bottom_left, z))
            masked.append(grid(shown.source, shown.edited, self._source, self._grey))
            prompts.append(prompt.expand(count, -1, -1))
        predicted = self._model.noise(torch.cat(noisy), t, torch.cat(masked), torch.cat(prompts))
        require_finite(predicted, f"painting {self._frames}", f"time step {t} of the model", _REMEDY)
        return list(predicted.split(count))  # type: ignore[no-untyped-call]
