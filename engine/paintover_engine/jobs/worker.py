"""The worker process: heavy imports and everything that can crash happen here, never in the daemon.

It reads one JSON request a line from standard input and answers on standard output:
    {"id": 1, "call": "probe", "arguments": {…}}   →   {"id": 1, "result": …} or {"id": 1, "error": {"code", "message"}}
While a call runs it may send {"id": 1, "progress": …}; {"cancel": 1} ends that call at its next frame.
When standard input ends, the daemon is gone: the worker leaves at once, and what it was writing stays unpublished.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.delivery import Output
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.runner import Runner
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.views import Sources, save_matte, save_picture
from paintover_engine.media.export import export_frame
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.mattes import check_mattes
from paintover_engine.media.sink import check_output
from paintover_engine.media.source import open_source, probe
from paintover_engine.methods.registry import find_method, find_model, read_parameters
from paintover_engine.methods.stage import KeyframeRef, ResultFrame, Stage

Json = Any


class Worker:
    """Answers calls; each public method is one."""

    def __init__(self, folder: DataFolder, send: Callable[[dict[str, Json]], None]) -> None:
        self._folder = folder
        self._store = Store(folder)
        self._views = Store(folder, results=folder.views)
        self._sources = Sources()
        self._send = send
        self._call = 0
        self._cancelled: set[int] = set()
        self._runners: dict[int, Runner] = {}

    def cancel(self, call: int) -> None:
        """Ends a call at its next frame; from the reading thread."""
        self._cancelled.add(call)

    def answer(self, request: dict[str, Json]) -> None:
        """Runs one call and sends its answer."""
        self._call = request["id"]
        try:
            result = getattr(self, request["call"])(**request["arguments"])
            self._send({"id": self._call, "result": result})
        except PaintoverError as error:
            self._send({"id": self._call, "error": {"code": error.code.value, "message": error.message}})
        except (OSError, MemoryError) as error:
            self._send({"id": self._call, "error": _environment_error(error)})
        except Exception as error:  # a programming error: the daemon logs the traceback, the user gets a sentence
            trace = traceback.format_exc()
            message = f"Internal error in the worker: {type(error).__name__}: {error}."
            self._send({"id": self._call, "error": {"code": "INTERNAL", "message": message, "traceback": trace}})
        finally:
            self._cancelled.discard(self._call)

    def _is_cancelled(self) -> bool:
        return self._call in self._cancelled

    # Calls about sources and keyframes.

    def probe(self, path: str, first: int | None, last: int | None, colorspace: str, layer: str = "") -> str:
        return probe(path, first, last, colorspace, layer).to_json()

    def check_outputs(self, path: str, mattes_path: str, source: str, overwrite: bool) -> None:
        """Whether a job's outputs can be written; each may be "" for none."""
        if path:
            check_output(path, source, overwrite)
        if mattes_path:
            check_mattes(mattes_path, source, overwrite)

    def check_model(self, method: str, model: str) -> str:
        """Whether a job of that method could compute with that model; returns its folder."""
        return str(find_model(find_method(method), model).path)

    def plan_method(self, info: str, method: str, parameters: dict[str, str], model: str) -> Json:
        """What a method with a model would take of memory and disk; None where it does not count that."""
        spec = find_method(method)
        folder = find_model(spec, model)
        count = getattr(importlib.import_module(spec.module), "requirements", None)
        return count and count(SourceInfo.from_json(info), read_parameters(spec, parameters), folder)

    def keyframe(self, info: str, frame: int, path: str, matte_path: str) -> Json:
        """Reads a keyframe, checks it against the plate and keeps it by its digest."""
        shot = SourceInfo.from_json(info)
        source = open_source(shot)  # anew: it tells whether the source changed since it was probed
        try:
            keyframe = load_keyframe(path, frame, source.read(frame), shot, matte_path or None)
        finally:
            source.close()
        outputs.save_keyframe(self._folder.keyframes / f"{keyframe.digest}.safetensors", keyframe)
        return {"digest": keyframe.digest, "notes": list(keyframe.notes), "has_matte": keyframe.matte is not None}

    def export_frame(self, info: str, frame: int, path: str, overwrite: bool) -> list[str]:
        """Writes the plate's frame as a file to paint on; returns notes."""
        shot = SourceInfo.from_json(info)
        return export_frame(path, self._sources.get(shot).read(frame), shot, overwrite)

    def plate(self, info: str, frame: int) -> str:
        """Writes the plate's frame as a stored frame, alpha 1; returns the stage key it lies under."""
        shot = SourceInfo.from_json(info)
        stage = Stage("plate", {}, (), (shot.fingerprint,), (frame, frame), publishes=True)
        if not self._views.has(stage.key, publishes=True):
            rgb = self._sources.get(shot).read(frame).rgb()
            pixels = np.dstack([rgb, np.ones_like(rgb[..., :1])]).astype(np.float16)
            window = (0, 0, shot.width, shot.height)
            outputs.save_frames(self._views, stage, [ResultFrame(frame, window, pixels, 1.0)], window[2:])
        return stage.key

    def picture(self, key: str, info: str, frame: int, view: str, side: int, result: str, name: str) -> None:
        """Keeps a small picture under a key. view: "plate", "result" or "matte"; result: the key of what made it;
        name: the file's."""
        shot = SourceInfo.from_json(info)
        painted = self._store.frame(result, frame) if result else None
        if view == "matte" and painted:
            save_matte(self._views, key, shot, side, painted)
        else:
            save_picture(self._views, key, self._sources.get(shot), shot, frame, side, painted, name)

    # Calls about jobs.

    def plan(
        self,
        job: int,
        info: str,
        method: str,
        parameters: dict[str, str],
        keyframes: list[tuple[int, str]],
        model: str,
        output: dict[str, Json] | None,
    ) -> Json:
        """Declares a job's stages, and what a whole propagation costs; `run` and `deliver` name them by job and key.
        output: what `delivery.Output` holds; None where nothing is written."""
        self.forget(job)
        self._runners[job] = runner = Runner(
            self._store,
            SourceInfo.from_json(info),
            method,
            read_parameters(find_method(method), parameters),
            [KeyframeRef(frame, digest) for frame, digest in keyframes],
            self._is_cancelled,
            model,
            Output(**output) if output else None,
        )
        stages = [
            {
                "key": stage.key,
                "label": stage.label,
                "function": stage.function,
                "cost": stage.cost,
                "publishes": stage.publishes,
                "needs_keyframe": stage.needs_keyframe,
                "inputs": [needed.key for needed in stage.inputs],
            }
            for stage in runner.stages
        ]
        return {"stages": stages, "whole": runner.whole_cost()}

    def run(self, job: int, key: str, then: list[str]) -> Json:
        """Runs a stage. then: the keys of those that will be asked for next, in order."""
        runner = self._runners[job]
        stage, *others = (self._stage(runner, each) for each in (key, *then))
        report = runner.run(stage, others)
        return {"seconds": report.seconds, "frames": report.frames}

    @staticmethod
    def _stage(runner: Runner, key: str) -> Stage:
        return next(stage for stage in runner.stages if stage.key == key)

    def deliver(self, job: int) -> list[str]:
        """Waits until a job's result is written."""
        call = self._call
        return list(self._runners[job].deliver(lambda frames: self._send({"id": call, "progress": frames})))

    def notes(self, job: int) -> list[str]:
        return self._runners[job].notes()

    def forget(self, job: int) -> None:
        """Closes what a job held open."""
        if runner := self._runners.pop(job, None):
            runner.close()


def _choose_gpu(number: str, memory: int) -> None:
    """Shows CUDA one GPU, or none, and leaves the rest of its memory to the host program."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
    os.environ["CUDA_VISIBLE_DEVICES"] = number
    if number and memory and importlib.util.find_spec("torch"):
        torch = importlib.import_module("torch")
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory / total))


def _environment_error(error: OSError | MemoryError) -> dict[str, str]:
    """The sentence for what the machine lacks rather than the program."""
    if isinstance(error, MemoryError):
        return {
            "code": Code.RESOURCE_EXHAUSTED.value,
            "message": "The worker ran out of memory; close other programs and retry.",
        }
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"The disk is full{where}; make room and retry: finished stages are kept."
        return {"code": Code.RESOURCE_EXHAUSTED.value, "message": message}
    return {
        "code": Code.FAILED_PRECONDITION.value,
        "message": f"{error.strerror or error}{where}; mend that and retry.",
    }


def main() -> None:
    """Serves calls until standard input ends."""
    parser = argparse.ArgumentParser(prog="paintover-worker")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--gpu", default="", help="the GPU to compute on, by its number; none: the CPU")
    parser.add_argument("--gpu-memory", type=int, default=0, help="bytes of it to use at most; 0: all")
    arguments = parser.parse_args()
    folder = DataFolder(arguments.data_dir)
    os.environ["PAINTOVER_DATA"] = str(folder.root)  # its `models` are looked for there
    _choose_gpu(arguments.gpu, arguments.gpu_memory)

    # Libraries print to standard output when they please: keep the pipe to ourselves and give them standard error.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(message: dict[str, Json]) -> None:
        with lock:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()

    requests: queue.SimpleQueue[dict[str, Json]] = queue.SimpleQueue()
    worker = Worker(folder, send)

    def read() -> None:
        for line in sys.stdin:
            request = json.loads(line)
            if "cancel" in request:
                worker.cancel(request["cancel"])
            else:
                requests.put(request)
        os._exit(0)  # the daemon is gone; nothing half-written is published

    threading.Thread(target=read, name="requests", daemon=True).start()
    while True:
        worker.answer(requests.get())


if __name__ == "__main__":
    main()
