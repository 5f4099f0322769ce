"""How one engine's queue scales: the real scheduler and the real queue against simulated devices, on a virtual clock.

python benchmarks/scale.py --figure                        the whole table, and docs/pictures/scale.svg; hours
python benchmarks/scale.py --devices 1 64                  some of it
python benchmarks/scale.py --devices 256 --shots 50        a shorter night

A hundred shots of 240 frames, each with a keyframe in its middle, are planned by the methods' own planners for a model
of windows of 14 frames (Stable Video Diffusion's). A device takes the time that a stage's cost stands for: passes of
the UNet at `PASS_SECONDS`, and for the stages that track the edit, frames at `TRACK_SECONDS`. Devices fail at random,
once in `MTBF` seconds of work: the stage is lost, and the device starts again after `RESTART_SECONDS`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import selectors
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from paintover_engine.diffusion import models
from paintover_engine.jobs import protocol
from paintover_engine.jobs.cache import Cache
from paintover_engine.jobs.device_worker import DeviceWorker
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.entities import JobSpec, JobState, Shot, StoredKeyframe
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import PlannedStage
from paintover_engine.jobs.queue import Queue
from paintover_engine.jobs.scheduler import Scheduler
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.worker_client import WorkerDied
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods.registry import find_method, plan_stages, read_parameters
from paintover_engine.methods.stage import KeyframeRef

SHOTS, FRAMES, SIZE = 100, 240, (1920, 1080)
DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
METHODS = ("videoshop", "i2vedit")
PASS_SECONDS = 0.5  # of the UNet for one window; half precision on a workstation's GPU
TRACK_SECONDS = 0.05  # for one frame of what the draft's stages do
TRACKING = (
    "flow", "long_flow", "matte", "colour", "kind", "region", "train_matte", "learn", "track", "propagate", "result",
    "result_at_key",
)  # fmt: skip
MTBF = 6 * 3600.0
RESTART_SECONDS = 30.0
PLAN_SECONDS = 0.3  # to plan such a shot and open its source
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "scale.svg"


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """At once: the clock must not jump while a thread works."""
        future = self.create_future()
        future.set_result(func(*args))
        return future


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing is left to wait for: the queue stands still")
        self._loop.now += max(0.0, timeout)
        return super().select(0)


class MemoryStore(Store):
    """The store's index alone: which outputs there are."""

    def __init__(self, folder: DataFolder) -> None:
        super().__init__(folder)
        self.keys: set[str] = set()

    def has(self, key: str, publishes: bool) -> bool:
        return key in self.keys

    def is_whole(self, key: str, publishes: bool) -> bool:
        return key in self.keys


def seconds_of(stage: PlannedStage) -> float:
    """What a stage takes on a device."""
    return stage.cost * (TRACK_SECONDS if stage.function in TRACKING else PASS_SECONDS)


@dataclass
class Farm:
    """What the simulated devices share. plans: a job's stages; sizes: of their outputs in bytes; fails: whether devices
    do.

    Counted: failures, stages that ran, bytes that devices fetched of what others had made, the time of the last stage's
    end, and by job the times of its start and of its first frame."""

    plans: dict[int, list[PlannedStage]]
    sizes: dict[str, int]
    store: MemoryStore
    dice: random.Random
    fails: bool
    failures: int = 0
    ran: int = 0
    fetched: int = 0
    end: float = 0.0
    made_by: dict[str, object] = field(default_factory=dict)
    starts: dict[int, float] = field(default_factory=dict)
    first_frames: dict[int, float] = field(default_factory=dict)


class SimulatedClient:
    """Stands in for a worker's process."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self.alive, self.generation = True, 1
        self._stages: dict[int, dict[str, PlannedStage]] = {}
        self._next_failure = self._draw()

    def _draw(self) -> float:
        return self._farm.dice.expovariate(1 / MTBF) if self._farm.fails else float("inf")

    async def call(self, request: Any, *, generation: int | None = None, progress: Any = None) -> Any:
        """Answers as a worker does, after the time that it would take."""
        if generation not in (None, self.generation):
            raise WorkerDied("between two calls")
        if isinstance(request, protocol.PlanJobRequest):
            await asyncio.sleep(PLAN_SECONDS)
            stages = self._farm.plans[request.job]
            self._stages[request.job] = {stage.key: stage for stage in stages}
            return protocol.PlanJobReply(stages=stages, whole=sum(stage.cost for stage in stages))
        if isinstance(request, protocol.RunStageRequest):
            return await self._run(request)
        if isinstance(request, protocol.JobNotesRequest):
            return protocol.Notes(notes=[])
        return protocol.Empty()

    async def _run(self, request: protocol.RunStageRequest) -> protocol.RunStageReply:
        farm, stage = self._farm, self._stages[request.job][request.key]
        seconds = seconds_of(stage)
        if self._next_failure < seconds:
            await asyncio.sleep(self._next_failure + RESTART_SECONDS)
            farm.failures += 1
            self.generation += 1
            self._stages.clear()
            self._next_failure = self._draw()
            raise WorkerDied("simulated", 9)
        clock = asyncio.get_running_loop().time
        farm.starts.setdefault(request.job, clock())
        await asyncio.sleep(seconds)
        self._next_failure -= seconds
        farm.ran += 1
        farm.fetched += sum(farm.sizes[key] for key in stage.inputs if farm.made_by[key] is not self)
        farm.made_by[stage.key] = self
        farm.store.keys.add(stage.key)
        farm.end = clock()
        if stage.publishes:
            farm.first_frames.setdefault(request.job, clock())
        return protocol.RunStageReply(seconds=seconds, frames=[])


def bytes_of(stage: PlannedStage) -> int:
    """About what a stage's output takes on disk."""
    latent, picture, plate = 4 * 4 * 72 * 128, 6 * 576 * 1024, 8 * SIZE[0] * SIZE[1]
    frames = span(stage)
    sizes = {
        "encode": latent * frames, "reconstruct": picture * 14, "invert": 2 * latent * 14, "denoise": latent * 14,
        "decode": picture * 13, "paint": (latent + picture) * 14, "train": 32_200_000, "result": plate * frames // 3,
        "flow": 2 * 4 * 480 * 270 * frames,
    }  # fmt: skip
    return sizes.get(stage.function, 480 * 270 * 4 * frames)


def span(stage: PlannedStage) -> int:
    """How many frames a stage works on, by its label."""
    numbers = stage.label.rpartition(" ")[2].split("-")
    return int(numbers[-1]) - int(numbers[0]) + 1


def shot_info(number: int) -> SourceInfo:
    """A shot that is nowhere."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return SourceInfo(
        path=f"/shots/{number}.mov", kind="video", first=0, last=FRAMES - 1, width=SIZE[0], height=SIZE[1],
        sample="uint10", channels=3, rate=Fraction(24), variable_rate=False, format="prores yuv422p10le", colorspace="",
        scene_linear=False, pixel_aspect=Fraction(1), timecode="", has_audio=False, notes=(), fingerprint=digest,
    )  # fmt: skip


def large_model(folder: Path) -> Path:
    """The shipped model with the windows and pictures of Stable Video Diffusion, for planning alone."""
    shutil.copytree(models.SHIPPED / "small-svd", folder)
    (folder / "paintover.json").write_text(json.dumps({"frames": 14, "size": [1024, 576]}))
    return folder


def planned(method: str, model: Path) -> list[PlannedStage]:
    """A shot's stages as its worker would declare them."""
    spec = find_method(method)
    keys = [KeyframeRef(FRAMES // 2, "0" * 64)]
    stages = plan_stages(spec, shot_info(0), keys, read_parameters(spec, {}), str(model))
    return [
        PlannedStage(
            stage.key, stage.label, stage.name, stage.cost, stage.publishes, stage.needs_keyframe,
            tuple(each.key for each in stage.inputs),
        )
        for stage in stages
    ]  # fmt: skip


def of_shot(stages: Sequence[PlannedStage], number: int) -> list[PlannedStage]:
    """The same stages of another shot: other keys."""
    keys = {stage.key: hashlib.sha256(f"{number} {stage.key}".encode()).hexdigest() for stage in stages}
    return [
        PlannedStage(
            keys[stage.key], stage.label, stage.function, stage.cost, stage.publishes, stage.needs_keyframe,
            tuple(keys[key] for key in stage.inputs),
        )
        for stage in stages
    ]  # fmt: skip


def longest_chain(stages: Sequence[PlannedStage]) -> float:
    """Seconds of a shot's longest chain of stages: on any number of devices it takes no less."""
    ends: dict[str, float] = {}
    for stage in stages:
        ends[stage.key] = seconds_of(stage) + max((ends[key] for key in stage.inputs), default=0.0)
    return PLAN_SECONDS + max(ends.values())


@dataclass(frozen=True)
class Run:
    """One simulated night. makespan: seconds; efficiency: work over devices times makespan; bound: the most that any
    order could reach, by the longest chain; first: median seconds from a job's start to its first frame; cpu: seconds
    of the daemon's processor a stage; moved: bytes fetched from other devices a frame."""

    devices: int
    makespan: float
    efficiency: float
    bound: float
    first: float
    cpu: float
    moved: float
    failures: int


def simulate(stages: Sequence[PlannedStage], method: str, devices: int, fails: bool) -> Run:
    """Runs all shots on some devices."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the queue waits for no disk
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        loop = VirtualLoop()
        asyncio.set_event_loop(loop)
        real = time.monotonic
        time.monotonic = loop.time  # type: ignore[assignment]  # the scheduler's pauses are of this clock
        try:
            return loop.run_until_complete(_night(stages, method, devices, fails, Path(folder), loop))
        finally:
            time.monotonic = real
            loop.close()


async def _night(
    stages: Sequence[PlannedStage], method: str, devices: int, fails: bool, folder: Path, loop: VirtualLoop
) -> Run:
    data = DataFolder(folder)
    data.create()
    queue, store = Queue(data.database), MemoryStore(data)
    jobs = list(_queue_jobs(queue, method))
    plans = {job: of_shot(stages, job) for job in jobs}
    sizes = {stage.key: bytes_of(stage) for plan in plans.values() for stage in plan}
    farm = Farm(plans, sizes, store, random.Random(devices), fails)
    workers = [
        DeviceWorker(Device("simulated", "cuda", number, 0), SimulatedClient(farm))  # type: ignore[arg-type]
        for number in range(devices)
    ]
    scheduler = Scheduler(queue, store, Cache(data), workers, lambda: None)
    cpu = time.process_time()
    running = asyncio.ensure_future(scheduler.run())
    while queue.count(JobState.DONE) < SHOTS:
        if queue.count(JobState.FAILED):
            raise SystemExit(f"a job failed: {queue.jobs(JobState.FAILED)[0].message}")
        await asyncio.sleep(20.0)
    cpu = time.process_time() - cpu
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    queue.close()
    work = SHOTS * sum(map(seconds_of, stages))
    assert farm.ran == SHOTS * len(stages), "a stage ran twice"
    least = max(work / devices, longest_chain(stages))
    return Run(
        devices=devices,
        makespan=farm.end,
        efficiency=work / devices / farm.end,
        bound=work / devices / least,
        first=statistics.median(farm.first_frames[job] - farm.starts[job] for job in jobs),
        cpu=cpu / farm.ran,
        moved=farm.fetched / (SHOTS * FRAMES),
        failures=farm.failures,
    )


def _queue_jobs(queue: Queue, method: str) -> Iterator[int]:
    for number in range(SHOTS):
        info = shot_info(number)
        queue.put_shot(Shot(str(number), info.path, None, None, "", False, info))
        key = StoredKeyframe(f"{number}/k", str(number), FRAMES // 2, "0" * 64, False, [], True)
        queue.put_keyframe(key)
        spec = JobSpec(method, {}, "model", [key.id], "", False, "", False)
        yield queue.add_job(str(number), spec, 0).id


def table(runs: dict[str, list[Run]]) -> Iterator[str]:
    """The rows of docs/benchmarks.md."""
    columns = ("method", "devices", "hours", "efficiency", "bound", "first frame, s", "failures", "daemon, ms a stage",
               "MB a frame")  # fmt: skip
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for method, found in runs.items():
        for run in found:
            yield (
                f"| {method} | {run.devices} | {run.makespan / 3600:.2f} | {run.efficiency:.3f} | {run.bound:.3f} "
                f"| {run.first:.0f} | {run.failures} | {1000 * run.cpu:.1f} | {run.moved / 1e6:.1f} |"
            )


WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 560, 300, 50, 20, 40  # of the figure, in pixels
COLOURS = ("#1f77b4", "#d62728")


def figure(runs: dict[str, list[Run]]) -> str:
    """Efficiency by devices as SVG; dashed what the longest chain allows."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
    parts = [f'{head}font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(tick)
        parts.append(f'<text x="12" y="{y + 4:.1f}">{tick:.2f}</text>')
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 20}" stroke="#ddd"/>')
    for place, ((method, found), colour) in enumerate(zip(runs.items(), COLOURS, strict=False)):
        parts.append(_line([(run.devices, run.efficiency) for run in found], colour, "none"))
        parts.append(_line([(run.devices, run.bound) for run in found], colour, "4 4"))
        parts.append(f'<text x="70" y="{190 + 18 * place}" fill="{colour}">{method} (dashed: the bound)</text>')
    below = [(_x(devices), HEIGHT - 22, str(devices)) for devices in DEVICES]
    below.append((WIDTH / 2, HEIGHT - 6, "devices; upwards: efficiency"))
    parts += [f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{text}</text>' for x, y, text in below]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _x(devices: int) -> float:
    return LEFT + (WIDTH - LEFT - 20) * (devices.bit_length() - 1) / (DEVICES[-1].bit_length() - 1)


def _y(efficiency: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - efficiency)


def _line(points: Sequence[tuple[int, float]], colour: str, dash: str) -> str:
    path = " ".join(f"{_x(devices):.1f},{_y(value):.1f}" for devices, value in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'


def main() -> None:
    """Prints the table."""
    global SHOTS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="*", default=list(DEVICES))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--shots", type=int, default=SHOTS)
    parser.add_argument("--without-failures", action="store_true")
    parser.add_argument("--figure", action="store_true", help=f"write {FIGURE.name}")
    arguments = parser.parse_args()
    SHOTS = arguments.shots
    runs: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = large_model(Path(folder) / "model")
        for method in arguments.methods:
            stages = planned(method, model)
            work, chain = sum(map(seconds_of, stages)), longest_chain(stages)
            print(
                f"{method}: {len(stages)} stages a shot, {work:.0f} s of work, longest chain {chain:.0f} s", flush=True
            )
            runs[method] = []
            for devices in arguments.devices:
                runs[method].append(simulate(stages, method, devices, not arguments.without_failures))
                print(runs[method][-1], flush=True)
    print("\n".join(table(runs)))
    if arguments.figure:
        FIGURE.write_text(figure(runs))


if __name__ == "__main__":
    main()
