from __future__ import annotations

import json

from paintover.v1 import engine_pb2, job_pb2
from paintover_bridge.records import as_record, json_line, word


def test_a_job_becomes_plain_values() -> None:
    job = job_pb2.Job(
        name="jobs/3",
        state=job_pb2.JOB_STATE_WAITING_FOR_KEYFRAME,
        spec=job_pb2.JobSpec(parameters={"mode": "paint"}, keyframes=["a", "b"]),
        frames=[job_pb2.FrameSummary(number=-(2**40), confidence=0.1)],
        suggested_keyframes=[5],
    )
    record = as_record(job)
    assert record["state"] == "waiting_for_keyframe"
    assert record["spec"]["parameters"] == {"mode": "paint"}
    assert record["spec"]["keyframes"] == ["a", "b"]
    assert record["spec"]["output"] is None
    assert record["frames"] == [{"number": -(2**40), "confidence": 0.1}]
    assert record["suggested_keyframes"] == [5]
    assert json.loads(json_line(record)) == record


def test_absent_optional_number_is_none_not_zero() -> None:
    record = as_record(engine_pb2.Parameter(minimum=0.0))
    assert record["minimum"] == 0.0
    assert record["maximum"] is None


def test_unknown_job_state_is_shown_as_a_number() -> None:
    assert word(job_pb2.JobState.DESCRIPTOR, 42) == "42"


def test_newline_in_a_file_name_stays_one_json_line() -> None:
    assert "\n" not in json_line({"path": "a\nb\u2028c\udcff"})
