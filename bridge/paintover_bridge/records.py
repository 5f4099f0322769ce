"""Messages of the wire as plain records: what `--json` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
    from google.protobuf.message import Message
    from paintover.v1.job_pb2 import Job


def as_record(message: Message) -> dict[str, Any]:
    """The message's fields by their names in the protos. Whole numbers stay numbers (protobuf's own JSON makes 64-bit
    ones texts), enums are their words ("done"), what is absent is None."""
    fields: Iterable[Any] = message.DESCRIPTOR.fields  # two kinds of descriptor to the type checker, one to read
    return {field.name: _value(message, field) for field in fields}


def _value(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_scalar(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _scalar(value, field)


def _scalar(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return as_record(value)
    if field.enum_type is not None:
        return word(field.enum_type, value)
    if field.type == field.TYPE_FLOAT:
        return float(f"{value:.6g}")
    return value


def word(enum: EnumDescriptor, number: int) -> str:
    """ "waiting_for_keyframe" for JOB_STATE_WAITING_FOR_KEYFRAME; the number for one that this client does not know."""
    known = enum.values_by_number.get(number)
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"
    return str(number) if known is None else known.name[len(prefix) :].lower()


def job_number(job: Job) -> str:
    """ "3" for "jobs/3": what `paintover jobs` takes."""
    return job.name.rpartition("/")[2]


def json_line(record: Mapping[str, Any]) -> str:
    """One line, never broken by what a file is called."""
    return json.dumps(record, ensure_ascii=True, allow_nan=False, default=str)
