"""A report of a job for whoever has to find out what went wrong: one JSON text, without pixels or secrets."""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil

from paintover_engine import __version__
from paintover_engine.jobs.engine import Engine
from paintover_engine.service.logs import job_lines


def export_job(engine: Engine, job_id: int) -> str:
    """A job's settings, shot, keyframes, frames and log lines, and the machine that ran it."""
    job = engine.queue.job(job_id)
    shot = engine.queue.shot(job.shot)
    return json.dumps(
        {
            "paintover": __version__,
            "system": {"platform": platform.platform(), "python": platform.python_version()},
            "devices": [vars(device) for device in engine.devices],
            "disk": {**vars(engine.storage.usage()), "free": shutil.disk_usage(engine.folder.root).free},
            "notes": engine.notes,
            "job": {**dataclasses.asdict(job), "state": job.state.value},
            "shot": {**vars(shot), "info": json.loads(shot.info.to_json()) if shot.info else None},
            "keyframes": [vars(engine.queue.keyframe(name)) for name in job.spec.pictures],
            "frames": [vars(frame) for frame in engine.queue.frames(job_id)],
            "log": job_lines(engine.folder.logs, job_id),
        },
        indent=1,
    )
