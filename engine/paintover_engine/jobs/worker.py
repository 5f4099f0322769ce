"""The worker process: heavy imports and everything that can crash happen here, never in the daemon.

It reads requests from standard input and answers on standard output, a line each (`paintover_engine.jobs.protocol`).
When standard input ends, the daemon is gone: the worker exits at once, and what it was writing stays unpublished.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paintover_engine.compose.composite import composite
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import outputs, protocol
from paintover_engine.jobs.confinement import ROOTS, confine
from paintover_engine.jobs.devices import show
from paintover_engine.jobs.environment import environment_error
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.runner import Runner
from paintover_engine.jobs.store import Store
from paintover_engine.jobs.stored_keyframes import store_keyframe
from paintover_engine.jobs.views import Sources, save_matte, save_picture
from paintover_engine.media.copies import files_to_copy, find_copy, path_in_copy
from paintover_engine.media.export import ResultFrame as ResultPicture
from paintover_engine.media.export import export_frame, export_results
from paintover_engine.media.info import SourceInfo
from paintover_engine.media.inputs import refuse_inputs
from paintover_engine.media.mattes import check_mattes
from paintover_engine.media.output import check_output, check_sidecar
from paintover_engine.media.source import check_unchanged, content_digest, open_source, probe
from paintover_engine.methods.registry import find_method, find_model, read_parameters, trained_size_memory
from paintover_engine.methods.stage import ResultFrame

Handler = Callable[[Any], protocol.Message]


class Worker:
    """Handles calls, one at a time. send: writes one line to the daemon."""

    def __init__(self, folder: DataFolder, send: Callable[[protocol.AnswerLine], None]) -> None:
        self._folder = folder
        self._store = Store(folder)
        self._views = Store(folder.own, results=folder.views)
        self._sources = Sources()
        self._send = send
        self._call = 0
        self._cancelled: set[int] = set()
        self._runners: dict[int, Runner] = {}
        self.handlers: Mapping[type[protocol.Request[Any]], Handler] = {
            protocol.ProbeRequest: self._probe,
            protocol.CheckOutputsRequest: self._check_outputs,
            protocol.CheckModelRequest: self._check_model,
            protocol.ModelMemoryRequest: self._model_memory,
            protocol.PlanMethodRequest: self._plan_method,
            protocol.KeyframeRequest: self._keyframe,
            protocol.ExportFrameRequest: self._export_frame,
            protocol.ExportResultsRequest: self._export_results,
            protocol.PlateRequest: self._plate,
            protocol.PictureRequest: self._picture,
            protocol.SourceContentRequest: self._source_content,
            protocol.LocateSourceRequest: self._locate_source,
            protocol.PlanJobRequest: self._plan_job,
            protocol.RunStageRequest: self._run_stage,
            protocol.DeliverRequest: self._deliver,
            protocol.JobNotesRequest: self._job_notes,
            protocol.ForgetJobRequest: self._forget_job,
        }

    def cancel(self, call: int) -> None:
        """Ends a call at its next frame. Called from the reading thread."""
        self._cancelled.add(call)

    def answer(self, line: protocol.CallLine) -> None:
        """Runs one call and sends its reply or its error."""
        self._call = line.id
        try:
            request = line.request()
            reply = self.handlers[type(request)](request)
            self._send(protocol.AnswerLine(id=line.id, reply=reply.model_dump(mode="json")))
        except PaintoverError as error:
            self._send_error(protocol.CallError.of(error))
        except (OSError, MemoryError) as error:
            self._send_error(protocol.CallError.of(environment_error(error)))
        except Exception as error:  # a programming error: the daemon logs the traceback, the user gets a sentence
            message = f"Internal error in the worker: {type(error).__name__}: {error}."
            trace = traceback.format_exc()
            self._send_error(protocol.CallError(code=Code.INTERNAL, message=message, traceback=trace))
        finally:
            self._cancelled.discard(line.id)

    def _send_error(self, error: protocol.CallError) -> None:
        self._send(protocol.AnswerLine(id=self._call, error=error))

    def _is_cancelled(self) -> bool:
        return self._call in self._cancelled

    # Calls about sources and keyframes.

    def _probe(self, request: protocol.ProbeRequest) -> protocol.ProbeReply:
        info = probe(
            request.path, request.first, request.last, request.colorspace, stream=request.stream, layer=request.layer
        )
        return protocol.ProbeReply(info=info)

    def _check_outputs(self, request: protocol.CheckOutputsRequest) -> protocol.Empty:
        info, overwrite, paintings = request.info, request.overwrite, request.paintings
        files = check_output(request.path, info, overwrite, paintings) if request.path else []
        if request.path:
            check_sidecar(request.path, info, overwrite)
        if request.mattes_path:
            check_mattes(request.mattes_path, info, overwrite, paintings, files)
        return protocol.Empty()

    def _check_model(self, request: protocol.CheckModelRequest) -> protocol.Empty:
        find_model(find_method(request.method), request.model)
        return protocol.Empty()

    def _model_memory(self, request: protocol.ModelMemoryRequest) -> protocol.ModelMemoryReply:
        return protocol.ModelMemoryReply(memory=trained_size_memory(request.model))

    def _plan_method(self, request: protocol.PlanMethodRequest) -> protocol.PlanMethodReply:
        method = find_method(request.method)
        folder = find_model(method, request.model)
        count = getattr(importlib.import_module(method.module), "requirements", None)
        counted = count and count(request.info, read_parameters(method, request.parameters), folder)
        return protocol.PlanMethodReply(
            requirements=protocol.MethodRequirements.model_validate(counted) if counted else None
        )

    def _keyframe(self, request: protocol.KeyframeRequest) -> protocol.KeyframeReply:
        source = open_source(request.info)  # a new one: opening it tells whether the source changed since the probe
        try:
            return store_keyframe(request, source, self._folder.keyframes)
        finally:
            source.close()

    def _export_frame(self, request: protocol.ExportFrameRequest) -> protocol.Notes:
        refuse_inputs([Path(request.path)], request.info)
        info, number = request.info, request.frame
        result = self._result_picture(info, "", number, request.result) if request.result else None
        plate = result.plate if result else self._sources.get(info).read(number)
        return protocol.Notes(notes=export_frame(request.path, plate, info, request.overwrite, result))

    def _export_results(self, request: protocol.ExportResultsRequest) -> protocol.Empty:
        refuse_inputs([Path(request.path)], request.info)
        frames = [self._result_picture(request.info, name, number, key) for name, number, key in request.frames]
        export_results(request.path, request.info, frames)
        return protocol.Empty()

    def _result_picture(self, info: SourceInfo, name: str, number: int, key: str) -> ResultPicture:
        """A frame of a result to export. key: of the stage that published it."""
        plate, stored = self._sources.get(info).read(number), self._store.frame(key, number)
        painted = outputs.load_painted(stored)
        result = composite(plate, painted, stored.bounds)
        return ResultPicture(name, plate, result, stored.bounds, painted[..., 3])

    def _plate(self, request: protocol.PlateRequest) -> protocol.PlateReply:
        info, frame = request.info, request.frame
        key = hashlib.sha256(f"plate {info.fingerprint} {frame}".encode()).hexdigest()
        if not self._views.has(key, publishes=True):
            rgb = self._sources.get(info).read(frame).rgb()
            pixels = np.dstack([rgb, np.ones_like(rgb[..., :1])]).astype(np.float16)
            bounds = (0, 0, info.width, info.height)
            outputs.save_frames(self._views, key, [ResultFrame(frame, bounds, pixels, 1.0)], bounds[2:])
        return protocol.PlateReply(key=key)

    def _picture(self, request: protocol.PictureRequest) -> protocol.Empty:
        info, frame = request.info, request.frame
        painted = self._store.frame(request.result, frame) if request.result else None
        if request.view == "matte" and painted:
            save_matte(self._views, request.key, info, request.side, painted)
        else:
            source = self._sources.get(info)
            save_picture(self._views, request.key, source, info, frame, request.side, painted, request.name)
        return protocol.Empty()

    def _source_content(self, request: protocol.SourceContentRequest) -> protocol.SourceContentReply:
        check_unchanged(request.info)
        files = [str(path) for path in files_to_copy(request.info)]
        return protocol.SourceContentReply(content=content_digest(request.info), files=files)

    def _locate_source(self, request: protocol.LocateSourceRequest) -> protocol.ProbeReply:
        path = path_in_copy(request.info, Path(request.path)) if request.copied else request.path
        return protocol.ProbeReply(info=find_copy(request.info, path, request.content))

    # Calls about jobs.

    def _plan_job(self, request: protocol.PlanJobRequest) -> protocol.PlanJobReply:
        self._close(request.job)
        self._runners[request.job] = runner = Runner(
            self._store,
            request.info,
            request.method,
            read_parameters(find_method(request.method), request.parameters),
            request.keyframes,
            self._is_cancelled,
            request.model,
            request.output,
            self._folder.publication(request.job),
            request.source,
            request.kept,
        )
        stages = [
            protocol.PlannedStage(
                key=stage.key,
                label=stage.label,
                function=stage.name,
                cost=stage.cost,
                publishes=stage.publishes,
                needs_keyframe=stage.needs_keyframe,
                inputs=tuple(needed.key for needed in stage.inputs),
            )
            for stage in runner.stages
        ]
        return protocol.PlanJobReply(stages=stages, whole=runner.whole_cost())

    def _run_stage(self, request: protocol.RunStageRequest) -> protocol.RunStageReply:
        runner = self._runners[request.job]
        stages = {stage.key: stage for stage in runner.stages}
        report = runner.run(stages[request.key], [stages[key] for key in request.following])
        return protocol.RunStageReply(seconds=report.seconds, frames=report.frames)

    def _deliver(self, request: protocol.DeliverRequest) -> protocol.Notes:
        call = self._call

        def report(frames: int) -> None:
            self._send(protocol.AnswerLine(id=call, progress=protocol.DeliveryProgress(frames=frames)))

        runner = self._runners[request.job]
        return protocol.Notes(notes=list(runner.deliver(report, request.notes, request.started)))

    def _job_notes(self, request: protocol.JobNotesRequest) -> protocol.Notes:
        runner = self._runners[request.job]
        check_unchanged(runner.info)
        return protocol.Notes(notes=runner.notes())

    def _forget_job(self, request: protocol.ForgetJobRequest) -> protocol.Empty:
        self._close(request.job)
        return protocol.Empty()

    def _close(self, job: int) -> None:
        if runner := self._runners.pop(job, None):
            runner.close()


def _choose_device(kind: str, visible: str, words: str, memory: int) -> None:
    """Shows PyTorch one GPU, or none, and leaves the rest of its memory to the host program."""
    environment = dict(os.environ)
    show(kind, visible, environment)
    os.environ.update(environment)
    os.environ["PAINTOVER_ACCELERATOR_NAME"] = words
    if kind in ("cuda", "rocm") and memory and importlib.util.find_spec("torch"):
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():  # a GPU that PyTorch cannot use is refused by the stage that wants it
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, memory / total))


def main() -> None:
    """Serves calls until standard input ends."""
    parser = argparse.ArgumentParser(prog="paintover-worker")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="where stages' outputs lie, if not there")
    parser.add_argument("--device", default="cpu", help="the kind of device to compute on")
    parser.add_argument("--visible", default="", help="which GPU, as its runtime names it")
    parser.add_argument("--device-name", default="", help="the GPU in words, for messages")
    parser.add_argument("--gpu-memory", type=int, default=0, help="bytes of it to use at most; 0: all")
    arguments = parser.parse_args()
    folder = DataFolder(arguments.data_dir, arguments.store)
    os.environ["PAINTOVER_DATA"] = str(folder.root)  # its `models` are looked for there
    if roots := os.environ.get(ROOTS):
        confine([folder.stages, *map(Path, roots.split(os.pathsep))], folder.root)
    _choose_device(arguments.device, arguments.visible, arguments.device_name, arguments.gpu_memory)

    # Libraries print to standard output when they please: keep the pipe to ourselves and give them standard error.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(line: protocol.AnswerLine) -> None:
        with lock:
            pipe.write(protocol.encode(line))
            pipe.flush()

    calls: queue.SimpleQueue[protocol.CallLine] = queue.SimpleQueue()
    worker = Worker(folder, send)

    def read() -> None:
        try:
            for line in sys.stdin.buffer:
                request = protocol.decode_request(line)
                if isinstance(request, protocol.CancelLine):
                    worker.cancel(request.cancel)
                else:
                    calls.put(request)
        except protocol.ProtocolError as error:
            send(protocol.AnswerLine(id=protocol.NO_CALL, error=protocol.CallError.of(error)))
            os._exit(1)
        os._exit(0)  # the daemon is gone; nothing half-written is published

    threading.Thread(target=read, name="requests", daemon=True).start()
    while True:
        worker.answer(calls.get())


if __name__ == "__main__":
    main()
