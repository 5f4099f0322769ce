"""Methods, jobs and the engine itself, laid out for people."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from os.path import basename

from paintover.v1 import engine_pb2, job_pb2, shot_pb2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paintover_bridge.output import write_line
from paintover_bridge.progress import activity, duration, range_in_words, state_word
from paintover_bridge.records import job_number

_READABLE = 100
_WIDE = 10_000  # a pipe has no width: nothing is wrapped or cut


def _print(table: Table) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        write_line(line.rstrip())


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column != "output", overflow="fold")
    return table


def print_methods(methods: Iterable[engine_pb2.Method]) -> None:
    """Each method with what it needs, and each of its parameters as `-p` takes it."""
    width = min(shutil.get_terminal_size().columns, _READABLE) if sys.stdout.isatty() else _WIDE

    def wrapped(text: str, indent: int) -> str:
        margin = " " * indent
        return textwrap.fill(text, width, initial_indent=margin, subsequent_indent=margin)

    for index, method in enumerate(methods):
        if index:
            write_line("")
        write_line(wrapped(f"{method.name}: {method.summary}", 0))
        write_line(wrapped("needs: " + ("; ".join(method.needs) or "nothing beyond the engine"), 2))
        for parameter in method.parameters:
            write_line(f"  -p {parameter.name}={parameter.default_value}  ({takes(parameter)})")
            write_line(wrapped(parameter.help, 6))


def print_plan(plan: engine_pb2.MethodPlan) -> None:
    """A method's windows, its GPU memory by tier, and its files."""
    write_line(f"{plan.windows} windows of {plan.frames_per_window} frames of {plan.width}x{plan.height}")
    table = _table("tier", "GPU memory")
    for tier in plan.tiers:
        table.add_row(tier.name, f"{tier.memory_bytes / 1e9:.1f} GB")
    _print(table)
    write_line("a job takes the first tier that fits")
    table = _table("files of a window", "at most")
    for file in plan.files:
        table.add_row(file.name, f"{file.bytes / 1e6:.1f} MB")
    table.add_row("together", f"{sum(file.bytes for file in plan.files) / 1e6:.1f} MB")
    _print(table)
    write_line(f"and a checkpoint of {plan.checkpoint_bytes / 1e6:.1f} MB while a window is trained")


def takes(parameter: engine_pb2.Parameter) -> str:
    """ "0 to 8 px", "fast | fine", "true | false"."""
    if parameter.choices:
        return " | ".join(parameter.choices)
    if parameter.kind == engine_pb2.PARAMETER_KIND_BOOL:
        return "true | false"
    if parameter.kind == engine_pb2.PARAMETER_KIND_STRING:
        return "text"
    whole = parameter.kind == engine_pb2.PARAMETER_KIND_INT
    low = f"{parameter.minimum:g}" if parameter.HasField("minimum") else ""
    high = f"{parameter.maximum:g}" if parameter.HasField("maximum") else ""
    if low and high:
        values = f"{low} to {high}"
    elif low or high:
        values = f"at least {low}" if low else f"at most {high}"
    else:
        values = "a whole number" if whole else "a number"
    return f"{values}{', whole' if whole and (low or high) else ''} {parameter.unit}".strip()


def print_jobs(jobs: Sequence[job_pb2.Job], shots: Iterable[shot_pb2.Shot]) -> None:
    """One line a job. shots: those that the jobs are of."""
    table = _table("job", "state", "done", "left", "method", "source", "frames", "when", "output")
    by_name = {shot.name: shot for shot in shots}
    for job in jobs:
        running = job.state == job_pb2.JOB_STATE_RUNNING
        shot = by_name.get(job.spec.shot)
        row = (
            job_number(job),
            state_word(job.state),
            f"{job.progress.fraction:.0%}",
            duration(job.progress.seconds_left) if running else "",
            job.spec.method,
            basename(shot.source.rstrip("/")) if shot else "",
            f"{shot.range.first}-{shot.range.last}" if shot else "",
            _when(job.end_time or job.start_time or job.create_time),
            job.spec.output.path or "the engine",
        )
        table.add_row(*map(Text, row))
    _print(table)


def print_job(job: job_pb2.Job) -> None:
    """All that is known about a job."""
    progress = job.progress
    stages = f"{progress.stages_done} of {progress.stages_total}"
    if progress.stages_found:
        stages += f", {progress.stages_found} of them found finished"
    rows = [
        ("job", job_number(job)),
        ("state", state_word(job.state)),
        ("message", job.message),
        ("prepared", f"{progress.prepared:.0%} of the whole" if _prepares(job) else ""),
        ("doing", activity(job) if job.state == job_pb2.JOB_STATE_RUNNING else ""),
        ("done", f"{progress.fraction:.0%}"),
        ("stages", stages if progress.stages_total else ""),
        ("frames", f"{progress.frames_done} of {progress.frames_total}" if progress.frames_total else ""),
        ("time left", duration(progress.seconds_left) if job.state == job_pb2.JOB_STATE_RUNNING else ""),
        ("method", job.spec.method),
        ("parameters", ", ".join(f"{name}={value}" for name, value in sorted(job.spec.parameters.items()))),
        ("model", job.spec.model),
        ("shot", job.spec.shot),
        ("keyframes", _frames(job.spec.keyframes)),
        ("corrected", _frames(job.spec.corrections)),
        ("output", job.spec.output.path),
        ("mattes", job.spec.output.mattes_path),
        ("priority", str(job.priority)),
        ("made", _clock(job.create_time)),
        ("started", _clock(job.start_time)),
        ("ended", _clock(job.end_time)),
        ("confidence", _confidence(job)),
        ("not sure", "\n".join(map(range_in_words, job.unsure))),
        ("paint next", ", ".join(map(str, job.suggested_keyframes))),
    ]
    print_rows(rows)


def _frames(keyframes: Iterable[str]) -> str:
    """The frames of keyframes' names, "shots/<id>/keyframes/<frame>-<digest>"."""
    return ", ".join(name.rpartition("/")[2].rpartition("-")[0] for name in keyframes)


def _prepares(job: job_pb2.Job) -> bool:
    return job.spec.prepare_only or not job.spec.keyframes


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values; what has no value is left out."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(Text(name), Text(value))
    _print(table)


def print_engine(engine: engine_pb2.Engine, address: str) -> None:
    """What the engine is and does."""
    print_rows(
        [
            ("engine", f"{engine.version}, protocol {engine.protocol}"),
            ("address", address),
            ("process", str(engine.pid)),
            ("data folder", f"{engine.data_folder} ({size(engine.data_folder_free_bytes)} free)"),
            *(("device", device_line(device)) for device in engine.devices),
            ("workers join at", engine.workers_address),
            ("fingerprint", engine.workers_fingerprint),
            *(("model", f"{model.name}: {model_line(model, engine.devices)}") for model in engine.found_models),
            ("finals", engine.final.why),
            ("jobs", f"{engine.jobs_running} running, {engine.jobs_waiting} waiting"),
            ("note", " ".join(engine.notes)),
        ]
    )


def device_line(device: engine_pb2.Device) -> str:
    """A device, its driver and memory, and what was found when it was tried."""
    driver = f", driver {device.driver}" if device.driver else ""
    state = f"cannot be used ({device.problem}): {device.remedy}" if device.problem else device.tried
    waiting = "" if device.kind == "cpu" else "not tried yet"
    used = f"{size(device.memory_used_bytes)} of " if device.memory_used_bytes else ""
    name = f"{device.machine}: {device.name}" if device.machine else device.name
    words = [f"{name} ({used}{size(device.memory_bytes)}{driver})", state or waiting, ", ".join(device.running)]
    return " – ".join(filter(None, words))


def model_line(model: engine_pb2.Model, devices: Iterable[engine_pb2.Device]) -> str:
    """What computes with a model, its size and licence, and which of this machine's GPUs hold it."""
    serves = f"for {', '.join(model.methods)}" if model.methods else "no method computes with it"
    words = [f"{serves}; {size(model.size_bytes)}, licence: {model.licence}"]
    if model.memory_bytes:
        own = [device for device in devices if device.kind != "cpu" and device.tried and not device.machine]
        holding = [device.name for device in own if device.memory_bytes >= model.memory_bytes]
        where = f"{', '.join(holding)} holds it" if holding else "no GPU here holds it"
        words.append(f"takes {size(model.memory_bytes)} of a GPU's memory: {where}")
    return "; ".join(words)


def print_cache(cache: engine_pb2.Cache) -> None:
    """What lies on the engine's disk."""
    evictable = cache.stages_bytes + cache.views_bytes + cache.orphans_bytes
    print_rows(
        [
            ("stages", size(cache.stages_bytes)),
            ("views", size(cache.views_bytes)),
            ("orphans", size(cache.orphans_bytes)),
            ("together", f"{size(evictable)} of {size(cache.budget_bytes)}, can be made again"),
            ("results", f"{size(cache.results_bytes)}, removed with their jobs"),
        ]
    )


def size(count: float) -> str:
    """ "9.5 GB" (decimal units)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _when(seconds: float) -> str:
    """ "17:05" of today, else "2026-11-27 17:05"."""
    moment = time.localtime(seconds)
    today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", moment)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def _confidence(job: job_pb2.Job) -> str:
    if not job.frames:
        return ""
    values = [frame.confidence for frame in job.frames]
    return f"{sum(values) / len(values):.2f} on average, {min(values):.2f} at worst"
