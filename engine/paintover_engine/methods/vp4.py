"""VP4: an image model is shown the edit and applies it to every frame, without inversion (VP4: visual prompting for
video editing, CVPR 2025; what is our reconstruction, and why, stands in docs/methods/vp4.md).

encode       the plate's frames as latents
exemplar     the keyframe's frame before and after the edit: the upper half of a 2×2 grid; and the edit's direction,
             from CLIP, as the prompt
sample       each frame below as the question; the answer's cell by content-consistency sampling
consistency  neighbouring answers' edits made to agree, by Stein variational gradient descent over stretches of frames
decode       what the edit changed in the picture
result       that change laid on the plate, at its own size, inside the tracked matte

Frames are independent up to `consistency`, which looks one chunk to either side: memory does not grow with the shot.
Between two keyframes every frame is sampled from both and blended by nearness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.detail import Framing, Picture
from paintover_engine.compose.flow import flow_size, unpack
from paintover_engine.diffusion import models
from paintover_engine.diffusion.models import ModelFolder
from paintover_engine.methods import repaint
from paintover_engine.methods.parameters import VP4Parameters
from paintover_engine.methods.planning import CHUNK, StageList
from paintover_engine.methods.stage import Context, KeyframeRef, ResultFrame, Stage, Tensors, stage
from paintover_engine.methods.tracked import Repainted, TrackedStages, composite
from paintover_engine.methods.tracking import flow, load_layer

if TYPE_CHECKING:
    from torch import Tensor

    from paintover_engine.diffusion.inpaint import Exemplar, InpaintModel
    from paintover_engine.media.info import SourceInfo

STRENGTH, GUIDANCE = 0.8, 7.5
"""For models that say nothing else: the strength below which the network's errors are no longer blown up tenfold, and
the guidance that Stable Diffusion 1.5 and InfEdit take."""

_BYTES = 64
"""Working memory of the network, for each latent of a grid and each of its widest layer's channels: 13 of them are
Stable Diffusion 1.5's tensors in half precision (`diffusion.memory.live_bytes`), the rest is for kernels and cloned
attention."""

_WIDEST = 2.0
"""Width over height, or the other way round, up to which a cell's short side keeps its length."""

# The plan.


def plan(info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VP4Parameters, model: str) -> list[Stage]:
    """The stages of one propagation, in the order that streams results soonest; without keyframes, those to prepare."""
    planner = _Planner(info, keyframes, parameters, models.locate(model, "inpaint"))
    if not keyframes:
        return planner.prepared()
    keys = sorted(keyframes, key=lambda key: key.frame)
    for key in keys:
        planner.stages.add(planner.tracked.at_key(key.frame))
    for before, after in zip([None, *keys], [*keys, None], strict=True):
        planner.interval(before, after)
    return planner.stages.stages


@dataclass(frozen=True)
class _Painted:
    """What one keyframe gives of a span of frames: the stage with the change of the picture."""

    key: KeyframeRef
    span: tuple[int, int]
    decoded: Stage


class _Planner:
    """Declares stages; `stages` collects them, each once, after its inputs."""

    def __init__(
        self, info: SourceInfo, keyframes: Sequence[KeyframeRef], parameters: VP4Parameters, model: ModelFolder
    ) -> None:
        models.locate_clip(model)  # fails now rather than in the middle of the job
        shape = cell_shape(model)
        short = parameters.cell or shape.short
        aspect = min(_WIDEST, max(info.width, info.height) / min(info.width, info.height))
        framing = Framing.of((info.width, info.height), round(short * short * aspect), shape.multiple)
        self._info = info
        self._roots = (info.fingerprint, model.digest)
        self._seen = {"model": model.name, "size": framing.size, "inner": framing.inner}
        self._shown = {"lambda1": parameters.lambda1, "prompt": parameters.prompt}
        self._sampled = {
            "strength": parameters.strength or model.default("strength", STRENGTH),
            "guidance": parameters.guidance or model.default("guidance", GUIDANCE),
            **parameters.model_dump(include={"steps", "lambda2", "sampling", "branches", "cloning", "seed"}),
        }
        self._agreed = parameters.model_dump(include={"consistency", "consistency_steps", "eta"})
        self._laid = {"matte": parameters.matte, "softness": parameters.softness}
        self._passes = parameters.steps * (1 if parameters.branches == "region" else 2)
        self.tracked = TrackedStages(info, keyframes)
        self.stages = StageList()

    def prepared(self) -> list[Stage]:
        """What needs no keyframe: the plate's latents and the draft's flow."""
        for first in _grid(self._info.first, self._info.last):
            self.stages.add(self._encode(first))
        for prepared in self.tracked.prepared:
            self.stages.add(prepared)
        return self.stages.stages

    def interval(self, before: KeyframeRef | None, after: KeyframeRef | None) -> None:
        """The frames between two neighbouring keyframes, or from the outermost one to the shot's end."""
        first = before.frame + 1 if before else self._info.first
        last = after.frame - 1 if after else self._info.last
        if first > last:
            return
        if after is None:
            assert before is not None
            for painted in self._walk(before, last):
                self._result(painted.span, [painted])
            return
        ahead = {painted.span: painted for painted in (self._walk(before, last) if before else ())}
        for painted in self._walk(after, first):
            sides = [ahead[painted.span], painted] if ahead else [painted]
            self._result(painted.span, sides)

    def _walk(self, key: KeyframeRef, end: int) -> Iterator[_Painted]:
        """The chunks from a keyframe outward to frame `end`."""
        step = 1 if end > key.frame else -1
        inner, outer = min(key.frame + step, end), max(key.frame + step, end)
        spans = [(max(first, inner), min(first + CHUNK - 1, outer)) for first in _grid(inner, outer)][::step]
        samples = [self._sample(key, span) for span in spans]
        for index, span in enumerate(spans):
            around = sorted(samples[max(0, index - 1) : index + 2], key=lambda stage: stage.frames)
            decoded = Stage(
                decode,
                self._seen,
                (self._consistency(key, span, around), self._encode(span[0])),
                (*self._roots, key.digest),
                span,
                needs_keyframe=True,
                cost=0.5 * _length(span),
            )
            yield _Painted(key, span, self.stages.add(decoded))

    def _sample(self, key: KeyframeRef, span: tuple[int, int]) -> Stage:
        return Stage(
            sample,
            {**self._seen, **self._sampled},
            (self._exemplar(key), self._encode(span[0])),
            (*self._roots, key.digest),
            span,
            needs_keyframe=True,
            cost=self._passes * _length(span),
        )

    def _exemplar(self, key: KeyframeRef) -> Stage:
        frames, roots = (key.frame, key.frame), (*self._roots, key.digest)
        return Stage(exemplar, {**self._seen, **self._shown}, (), roots, frames, needs_keyframe=True, cost=1.0)

    def _encode(self, frame: int) -> Stage:
        """The latents of the chunk of the absolute grid that a frame lies in."""
        first = frame // CHUNK * CHUNK
        frames = (max(first, self._info.first), min(first + CHUNK - 1, self._info.last))
        return Stage(encode, self._seen, (), self._roots, frames, cost=0.3 * _length(frames))

    def _consistency(self, key: KeyframeRef, span: tuple[int, int], samples: Sequence[Stage]) -> Stage:
        """The agreed latents of a span. The inputs are the keyframe's exemplar, the samples of the span and of the
        chunks beside it, the plate's latents of those, and the motion between them."""
        first = min(key.frame, samples[0].frames[0]) if key.frame + 1 == samples[0].frames[0] else samples[0].frames[0]
        last = (
            max(key.frame, samples[-1].frames[1]) if key.frame - 1 == samples[-1].frames[1] else samples[-1].frames[1]
        )
        flows = [stage for stage in self._flows() if stage.frames[0] < last and stage.frames[1] >= first]
        encodes = [self._encode(start) for start in _grid(samples[0].frames[0], samples[-1].frames[1])]
        return Stage(
            consistency,
            {**self._seen, **self._agreed, "stretch": [first, last]},
            (self._exemplar(key), *samples, *encodes, *flows),
            (*self._roots, key.digest),
            span,
            needs_keyframe=True,
            cost=0.5 * _length(span),
        )

    def _flows(self) -> list[Stage]:
        """The draft's flow stages of the whole shot."""
        return [stage for stage in TrackedStages(self._info, []).prepared if stage.function is flow]

    def _result(self, span: tuple[int, int], sides: Sequence[_Painted]) -> None:
        tracked = [self.tracked.of(side.key.frame, span) for side in sides]
        self.stages.add(
            Stage(
                result,
                {**self._seen, **self._laid, "sides": [1 + len(stages) for stages in tracked]},
                tuple(stage for side, stages in zip(sides, tracked, strict=True) for stage in (side.decoded, *stages)),
                (*self._roots, *(side.key.digest for side in sides)),
                span,
                needs_keyframe=True,
                cost=0.05 * _length(span),
            )
        )


@dataclass(frozen=True)
class CellShape:
    """short: a cell's short side in pixels. multiple: what its sides are multiples of."""

    short: int
    multiple: int


def cell_shape(model: ModelFolder) -> CellShape:
    """Read off the configuration: a cell is half a picture that the model was trained on."""
    unet, vae = (models.read_json(model.path / part / "config.json") for part in ("unet", "vae"))
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    multiple = max(factor, factor * 2 ** (len(unet["block_out_channels"]) - 1) // 2)
    return CellShape(int(unet["sample_size"]) * factor // 2, multiple)


def _grid(first: int, last: int) -> list[int]:
    """The first frames of the absolute chunks that touch first..last."""
    return list(range(first // CHUNK * CHUNK, last + 1, CHUNK))


def _length(span: tuple[int, int]) -> int:
    return span[1] - span[0] + 1


# The stages' functions.


def _model(stage: Stage) -> InpaintModel:
    from paintover_engine.diffusion import inpaint

    folder = models.locate(stage.parameters["model"], "inpaint")
    return inpaint.load(folder.path, models.locate_clip(folder))


@stage()
@repaint.with_model(_model)
def encode(context: Context, stage: Stage, model: InpaintModel) -> Tensors:
    """`latents` (frames, 4, h, w) float32: the plate's cells, scaled."""
    latents = []
    for number in range(stage.frames[0], stage.frames[1] + 1):
        context.check()
        latents.append(repaint.array(model.encode(repaint.plate(context, stage, number))))
    return {"latents": np.concatenate(latents)}


@stage()
@repaint.with_model(_model)
def exemplar(context: Context, stage: Stage, model: InpaintModel) -> Tensors:
    """`source`, `edited` (1, 4, h, w) float32: the keyframe's frame before and after the edit; `prompt` and `null`
    (1, tokens, width): the edit's direction and the empty prompt."""
    plate, painted = repaint.plate(context, stage, stage.frames[0]), repaint.keyframe(context, stage)
    shown = model.exemplar(plate, painted, stage.parameters["lambda1"], stage.parameters["prompt"])
    return {name: repaint.array(getattr(shown, name)) for name in ("source", "edited", "prompt", "null")}


@stage()
@repaint.with_model(_model)
def sample(context: Context, stage: Stage, model: InpaintModel) -> Tensors:
    """`latents` (frames, 4, h, w) float32: the answers. `evaluations` (1,): passes of a grid through the network."""
    import torch

    from paintover_engine.diffusion import ddim

    settings = stage.parameters
    shown = _shown(model, context, stage.inputs[0])
    source = _on(model, _of_span(context, stage.inputs[1:], stage.frames))
    levels = ddim.levels(model.alphas, settings["steps"], settings["strength"])
    before, answers = model.evaluations, []
    for frames in torch.split(source, _batch(model, source)):
        height, width = (2 * side for side in frames.shape[-2:])
        model.clone_attention(settings["cloning"], height, width)
        analogy = _Analogy(
            model, shown, frames, settings, context.check, f"frames {stage.frames[0]} to {stage.frames[1]}"
        )
        if settings["sampling"] == "plain":
            answers.append(ddim.ddim(analogy.edit, frames, levels, analogy.draw))
        else:
            answers.append(
                ddim.consistency_sampling(analogy.difference, frames, levels, analogy.draw, settings["lambda2"])
            )
    made = np.array([model.evaluations - before])
    return {"latents": np.concatenate([repaint.array(answer) for answer in answers]), "evaluations": made}


_Asked: TypeAlias = "tuple[Exemplar, Tensor, Tensor]"
"""What is shown, the answer's noisy cell (B, 4, h, w), and the prompt."""


class _Analogy:
    """Grids that ask for a shown edit on some frames: what the network says of the answer's cell.

    source: (B, 4, h, w), the frames as questions. frames: which, in words. Only the answer's cell is sampled; the three
    others are known, and are noised anew at every step."""

    def __init__(
        self,
        model: InpaintModel,
        shown: Exemplar,
        source: Tensor,
        settings: Mapping[str, Any],
        check: Callable[[], None],
        frames: str,
    ) -> None:
        self._model, self._shown, self._source, self._settings = model, shown, source, settings
        self._check, self._frames = check, frames
        self._grey = model.encode(source.new_zeros(1, 3, *(side * _factor(model) for side in source.shape[-2:])))
        self._drawn = self.draw(0)

    def draw(self, step: int) -> Tensor:
        """(1, 4, h, w): a step's noise of the answer's cell, shared by all frames and branches."""
        return self._draw(step, "answer")

    def difference(self, edit: Tensor, source: Tensor, t: int, drawn: Tensor) -> Tensor:
        """What the edit changes in the noise of the answer's cell (B, 4, h, w)."""
        from paintover_engine.diffusion.inpaint import answer, question

        self._drawn, branches = drawn, self._settings["branches"]
        if branches == "region":
            (edited,) = self._edited(edit, t, [])
            return answer(edited) - question(edited)
        shown = self._shown if branches == "same" else self._shown.unedited()
        edited, plain = self._edited(edit, t, [(shown, source, shown.null)])
        return answer(edited) - answer(plain)

    def edit(self, z: Tensor, t: int) -> Tensor:
        """The noise of the answer's cell under the edit alone."""
        from paintover_engine.diffusion.inpaint import answer

        return answer(self._edited(z, t, [])[0])

    def _edited(self, z: Tensor, t: int, beside: list[_Asked]) -> list[Tensor]:
        """The edit's estimate for whole grids, guided away from the empty prompt's; and what else is asked beside."""
        asked: list[_Asked] = [(self._shown, z, self._shown.prompt), *beside]
        scale = self._settings["guidance"]
        if scale == 1:
            return self._noise(asked, t)
        told, *others, plain = self._noise([*asked, (self._shown, z, self._shown.null)], t)
        return [plain + scale * (told - plain), *others]

    def _noise(self, asked: list[_Asked], t: int) -> list[Tensor]:
        """The network's estimates, in one pass, for grids whose answer's cells are given."""
        import torch

        from paintover_engine.diffusion import ddim
        from paintover_engine.diffusion.denoiser import demand_numbers
        from paintover_engine.diffusion.inpaint import grid

        self._check()
        a, count = float(self._model.alphas[t]), len(self._source)
        bottom_left = ddim.noised(self._source, self._drawn, a)  # the same noise as the answer's, for `region`
        noisy, masked, prompts = [], [], []
        for shown, z, prompt in asked:
            top_left = ddim.noised(shown.source, self._draw(t, "before"), a)
            top_right = ddim.noised(shown.edited, self._draw(t, "after"), a)
            noisy.append(grid(top_left, top_right, bottom_left, z))
            masked.append(grid(shown.source, shown.edited, self._source, self._grey))
            prompts.append(prompt.expand(count, -1, -1))
        found = self._model.noise(torch.cat(noisy), t, torch.cat(masked), torch.cat(prompts))
        avoided_by = "less guidance, or a model in another precision,"
        demand_numbers(found, f"painting {self._frames}", f"time step {t} of the model", avoided_by)
        return list(found.split(count))  # type: ignore[no-untyped-call]

    def _draw(self, step: int, cell: str) -> Tensor:
        import torch

        seed = [self._settings["seed"], step, *cell.encode()]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        return torch.randn((1, *self._source.shape[1:]), generator=generator).to(self._source.device)


@stage()
def consistency(context: Context, stage: Stage) -> Tensors:
    """`latents` (frames, 4, h, w) float32: the answers of a span after temporal consistency."""
    import torch

    from paintover_engine.diffusion import svgd

    shown, *rest = stage.inputs
    samples, encodes, flows = ([s for s in rest if s.function is function] for function in (sample, encode, flow))
    first, last = stage.parameters["stretch"]
    edited, source = (_known(context, stages) for stages in (samples, encodes))
    key = shown.frames[0]
    if first <= key <= last:  # the keyframe's edit is known: it holds still, and its neighbours agree with it
        pair = context.load(shown)
        edited[key], source[key] = pair["edited"][0], pair["source"][0]
    z, plain = (torch.from_numpy(np.stack([known[n] for n in range(first, last + 1)])) for known in (edited, source))
    held = torch.tensor([number == key for number in range(first, last + 1)])
    steps, eta = stage.parameters["consistency_steps"], stage.parameters["eta"]
    if stage.parameters["consistency"] == "residual":
        ahead, back = _motion(context, stage, flows, (z.shape[3], z.shape[2]))
        around = svgd.neighbours(plain, ahead, back)
        z = svgd.smoothed(z, plain, around, held, steps=steps, eta=eta, check=context.check)
    elif stage.parameters["consistency"] == "literal":
        z = svgd.literal(z, plain, steps=steps, eta=eta)
    return {"latents": z[stage.frames[0] - first : stage.frames[1] - first + 1].numpy()}


@stage()
@repaint.with_model(_model)
def decode(context: Context, stage: Stage, model: InpaintModel) -> Tensors:
    """`change` (frames, h, w, 3) float16: what the edit changed in the model's picture."""
    agreed, encoded = stage.inputs
    change = []
    source = _of_span(context, [encoded], stage.frames)
    for edited, plain in zip(context.load(agreed)["latents"], source, strict=True):
        context.check()
        pictures = repaint.pictures(model.decode(_on(model, np.stack([edited, plain]))))
        change.append(pictures[0] - pictures[1])
    return {"change": np.stack(change).astype(np.float16)}


@stage(publishes=True)
def result(context: Context, stage: Stage) -> Iterator[ResultFrame]:
    """The painted frames of a span. The inputs are (decode, those of its layer) of each keyframe."""
    sides, rest = [], list(stage.inputs)
    framing = repaint.framing(context, stage)
    for count in stage.parameters["sides"]:
        (decoded, *tracked), rest = rest[:count], rest[count:]
        sides.append(Repainted(load_layer(context, tracked), _Change(context, decoded, framing)))
    yield from composite(context, stage.frames, sides, stage.parameters["matte"], stage.parameters["softness"])


class _Change:
    """The change of the picture at a frame, at the plate's size."""

    def __init__(self, context: Context, decoded: Stage, framing: Framing) -> None:
        self._change = context.load(decoded)["change"]
        self._first = decoded.frames[0]
        self._framing = framing

    def __call__(self, number: int) -> Picture:
        return self._framing.to_plate(self._change[number - self._first].astype(np.float32))


def notes(context: Context, stages: Sequence[Stage]) -> list[str]:
    """What a finished job tells: that memory ran out, and how it went on."""
    return repaint.short_of_memory(context, stages)


# Between the stages and the model.


def _shown(model: InpaintModel, context: Context, stage: Stage) -> Exemplar:
    from paintover_engine.diffusion.inpaint import Exemplar

    kept = context.load(stage)
    return Exemplar(**{name: _on(model, kept[name]) for name in ("source", "edited", "prompt", "null")})


def _factor(model: InpaintModel) -> int:
    return int(2 ** (len(model.vae.config.block_out_channels) - 1))


def _batch(model: InpaintModel, source: Tensor) -> int:
    """How many frames go through the network together: on a GPU as many as half of its free memory holds."""
    if model.device.type != "cuda":
        return CHUNK
    free = (model.free() or 0) - sum(model.weights().values())
    pixels = 4 * source.shape[-2] * source.shape[-1]
    widest = max(model.unet.config.block_out_channels)
    return int(max(1, min(CHUNK, free / 2 // (3 * pixels * widest * _BYTES))))


def _known(context: Context, stages: Sequence[Stage]) -> dict[int, NDArray[np.float32]]:
    """Frame numbers to latents (4, h, w)."""
    found: dict[int, NDArray[np.float32]] = {}
    for known in stages:
        latents = context.load(known)["latents"]
        found |= dict(zip(range(known.frames[0], known.frames[1] + 1), latents, strict=True))
    return found


def _of_span(context: Context, stages: Sequence[Stage], span: tuple[int, int]) -> NDArray[np.float32]:
    """(frames, 4, h, w): the latents of a span of frames."""
    known = _known(context, stages)
    return np.stack([known[number] for number in range(span[0], span[1] + 1)])


def _motion(context: Context, stage: Stage, flows: Sequence[Stage], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(pairs, h, w, 2): the plate's motion between the frames of a stretch, ahead and back, on the grid of the latents
    (`size`: width, height)."""
    import torch

    first, last = stage.parameters["stretch"]
    packed = {
        number: (kept.forward[number - flow.frames[0]], kept.backward[number - flow.frames[0]])
        for flow in flows
        for kept in [context.load(flow)]
        for number in range(flow.frames[0], flow.frames[1] + 1)
    }
    cell, inner = stage.parameters["size"], stage.parameters["inner"]
    fields = flow_size(context.info.width, context.info.height)
    within = (round(inner[0] * size[0] / cell[0]), round(inner[1] * size[1] / cell[1]))
    framing = Framing(fields, size, within)
    scale = np.array([within[0] / fields[0], within[1] / fields[1]], np.float32)
    moved = [[framing.to_model(unpack(field)) * scale for field in packed[number]] for number in range(first, last)]
    empty = np.zeros((0, size[1], size[0], 2), np.float32)
    ahead, back = (np.stack([pair[i] for pair in moved]) if moved else empty for i in (0, 1))
    return torch.from_numpy(ahead), torch.from_numpy(back)


def _on(model: InpaintModel, array: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(np.array(array)).to(model.device)
