"""The worker's protocol: what is sent is what arrives, and what cannot be read is a sentence."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs import protocol
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.worker import Worker
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods.stage import KeyframeRef

INFO = SourceInfo(
    path="/shot.mov", kind="video", first=0, last=9, width=64, height=48, sample="uint10", channels=3,
    rate=Fraction(24000, 1001), variable_rate=False, format="prores", colorspace="", scene_linear=False,
    pixel_aspect=Fraction(2), timecode="", has_audio=True, notes=("a note",), fingerprint="ff",
)  # fmt: skip


def test_request_arrives_as_it_was_sent() -> None:
    request = protocol.PlanJobRequest(
        job=3, info=INFO, method="draft", parameters={"mode": "auto"}, keyframes=[KeyframeRef(4, "ab")], model="",
        output=protocol.Output("/out.mov", overwrite=True),
    )  # fmt: skip
    line = protocol.encode(protocol.call_line(7, request))
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    received = protocol.decode_request(line)
    assert isinstance(received, protocol.CallLine)
    assert (received.id, received.call, received.request()) == (7, "plan_job", request)


def test_absent_values_arrive_as_none() -> None:
    request = protocol.ProbeRequest(path="/shot.mov", first=None, last=5, colorspace="")
    received = protocol.decode_request(protocol.encode(protocol.call_line(1, request)))
    assert isinstance(received, protocol.CallLine)
    assert received.request() == request


def test_each_call_has_a_handler_and_its_own_reply(tmp_path: Path) -> None:
    worker = Worker(DataFolder(tmp_path), lambda line: None)
    assert set(worker.handlers) == {types.request for types in protocol.CALLS.values()}
    for name, types in protocol.CALLS.items():
        (declared,) = types.request.__mro__[1].__pydantic_generic_metadata__["args"]
        assert declared is types.reply, name


def test_other_version_is_refused_with_what_to_do() -> None:
    values = json.loads(protocol.encode(protocol.CancelLine(cancel=1)))
    line = json.dumps({**values, "version": protocol.VERSION + 1}).encode()
    for decode in (protocol.decode_request, protocol.decode_answer):
        with pytest.raises(protocol.ProtocolError, match="paintover stop") as caught:
            decode(line)
        assert caught.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff\xfe", b'{"version": 1, "id": 1, "reply"', b"[]", b'{"version": 1}', b'{"version": 1, "id": "x"}'],
)
def test_unreadable_answer_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.decode_answer(line)


@pytest.mark.parametrize("call", ["no_such_call", "forget_job"])
def test_wrong_call_is_a_protocol_error(call: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=call):
        protocol.CallLine(id=1, call=call, arguments={"job": "many"}).request()


def test_error_arrives_with_its_code() -> None:
    sent = protocol.CallError.of(PaintoverError(Code.NOT_FOUND, "There is no such file."))
    received = protocol.decode_answer(protocol.encode(protocol.AnswerLine(id=2, error=sent)))
    assert received.error
    raised = received.error.exception()
    assert (raised.code, raised.message) == (Code.NOT_FOUND, "There is no such file.")
