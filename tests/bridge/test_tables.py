"""Tables for people."""

from __future__ import annotations

import re
import time

import pytest
from paintover.v1 import job_pb2, shot_pb2
from paintover_bridge.tables import print_jobs


def test_jobs_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    shots = [
        shot_pb2.Shot(name="shots/a", source="/plates/sh010.mov", range=shot_pb2.FrameRange(first=0, last=47)),
        shot_pb2.Shot(name="shots/b", source="/plates/sh020/", range=shot_pb2.FrameRange(first=1001, last=1010)),
    ]
    now = time.time()
    written = job_pb2.JobSpec(shot="shots/a", method="draft", output=job_pb2.Output(path="/out/sh010.mov"))
    jobs = [
        job_pb2.Job(name="jobs/1", state=job_pb2.JOB_STATE_DONE, spec=written, end_time=now),
        job_pb2.Job(name="jobs/2", spec=job_pb2.JobSpec(shot="shots/b", method="vp4"), create_time=now - 86400 * 3),
        job_pb2.Job(name="jobs/3", spec=job_pb2.JobSpec(shot="shots/gone", method="draft"), create_time=now),
    ]
    print_jobs(jobs, shots)
    head, *rows = (re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines())
    assert head == ["job", "state", "done", "left", "method", "source", "frames", "when", "output"]
    today, before = time.strftime("%H:%M", time.localtime(now)), time.strftime("%Y-%m-%d", time.localtime(now - 259200))
    assert rows[0] == ["1", "done", "0%", "draft", "sh010.mov", "0-47", today, "/out/sh010.mov"]
    assert rows[1][-4:-2] == ["sh020", "1001-1010"] and rows[1][-2].startswith(before) and rows[1][-1] == "the engine"
    assert rows[2][-1] == "the engine"
