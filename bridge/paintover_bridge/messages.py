"""Requests made from a caller's values: what no field takes is told in a sentence, not by protobuf's TypeError."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Union

from paintover.v1 import keyframe_pb2, shot_pb2

from paintover_bridge.errors import ClientError, bad_input

if TYPE_CHECKING:
    from google.protobuf.message import Message

MessageT = TypeVar("MessageT", bound="Message")
ParameterValue = Union[str, int, float, bool]
PathLike = Union[str, "os.PathLike[str]"]
DragPoint = tuple[float, float, float, float]
"""x, y, to_x, to_y, in pixels from the top left: what the result shows at x, y belongs to to_x, to_y."""
PictureFile = Union[PathLike, bytes]
"""A path, or a whole image file's bytes."""


def message(kind: type[MessageT], /, **fields: Any) -> MessageT:
    """A message of these fields. Raises ClientError that names the first field whose value cannot be one."""
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise _culprit(kind, fields) or bad_input(f"These values cannot be sent: {error}.") from error


def parameter_texts(parameters: Mapping[str, ParameterValue] | None) -> dict[str, str]:
    """A method's parameters as a job takes them: True as "true", 0.5 as "0.5". Raises ClientError for other values."""
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise bad_input(f"parameters is {_told(parameters)}; give a dict, such as {{'strength': 0.5}}.")
    texts = {}
    for name, value in parameters.items():
        if not isinstance(value, (str, int, float)):
            raise bad_input(f"The parameter {name} is {_told(value)}; give a text, a number, True or False.")
        texts[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return texts


def absolute(path: PathLike) -> str:
    """The absolute path to send to the engine, which has another working folder. A trailing slash is kept: it marks a
    folder.

    Raises ClientError for what is no path, and for a name that is not valid UTF-8."""
    try:
        text = os.fspath(path)
    except TypeError as error:
        raise bad_input(
            f"{path!r} is no path but of type {type(path).__name__}; give a text or a pathlib.Path."
        ) from error
    full = os.path.abspath(os.path.expanduser(text))
    try:
        full = os.fsencode(full).decode("utf-8")  # the name's own bytes, which a locale may have decoded otherwise
    except UnicodeError as error:
        raise ClientError("INVALID_ARGUMENT", f"The name {text!r} is not valid UTF-8; rename it.") from error
    return os.path.join(full, "") if text.endswith(("/", os.sep)) else full


def frame_range(frames: tuple[int, int] | None) -> shot_pb2.FrameRange | None:
    """The range of first and last frame number; None for None. Raises ClientError for what is no pair of them."""
    if frames is None:
        return None
    if not isinstance(frames, (tuple, list)) or len(frames) != 2:
        raise bad_input(f"frames is {frames!r}; give the first and the last frame number, such as (10, 48).")
    return message(shot_pb2.FrameRange, first=frames[0], last=frames[1])


def picture_message(picture: PictureFile) -> keyframe_pb2.Picture:
    """A picture: an image file's bytes, or the path of one on the engine's machine."""
    if isinstance(picture, bytes):
        return message(keyframe_pb2.Picture, data=picture)
    return message(keyframe_pb2.Picture, path=absolute(picture))


def drag_messages(drag: Iterable[DragPoint]) -> list[keyframe_pb2.DragPoint]:
    """The points of a drag."""
    return [message(keyframe_pb2.DragPoint, x=x, y=y, to_x=to_x, to_y=to_y) for x, y, to_x, to_y in drag]


def _culprit(kind: type[MessageT], fields: Mapping[str, Any]) -> ClientError | None:
    for name, value in fields.items():
        if not _is_taken(kind, name, value):
            wanted = _wanted(kind.DESCRIPTOR.fields_by_name[name])
            return bad_input(f"{name} is {_told(value)}; give {wanted}.")
    return None


def _is_taken(kind: type[Message], name: str, value: object) -> bool:
    try:
        kind(**{name: value})
    except (TypeError, ValueError):
        return False
    return True


def _told(value: object) -> str:
    """ "'12', a str": the value, shortened, and its type."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'}, of type {type(value).__name__}"


def _wanted(field: Any) -> str:
    many = "a list of " if field.is_repeated else "a "
    if field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
        return f"{many}number{'s' if field.is_repeated else ''}"
    kinds = {field.TYPE_STRING: "text", field.TYPE_BOOL: "True or False", field.TYPE_BYTES: "bytes"}
    known = kinds.get(field.type)
    if known in ("True or False", "bytes"):
        return known
    noun = known or "whole number"
    return f"{many}{noun}{'s' if field.is_repeated else ''}"
