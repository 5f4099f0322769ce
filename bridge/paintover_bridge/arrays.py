"""NumPy arrays on their way to the engine and back. NumPy itself is imported by the caller's first array."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from paintover_bridge.errors import ClientError, bad_input
from paintover_bridge.frames import Frame, UploadFrame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_UPLOAD_TYPES = {"uint8": "uint8", "uint16": "uint16", "float16": "half", "float32": "float"}
_EXR_MAGIC = b"\x76\x2f\x31\x01\x02\x00\x00\x00"
_EXR_CHANNELS = {1: "Y", 3: "BGR", 4: "ABGR"}  # as files list them, by name


def is_array(value: object) -> bool:
    """Whether a value is a NumPy array (or what behaves like one), without importing NumPy."""
    return hasattr(value, "__array_interface__")


def picture_bytes(picture: object, what: str) -> bytes:
    """An array as the bytes of an image file that loses nothing: integers as PNG, floats as EXR.

    picture: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA with straight alpha; uint8 or uint16 over their whole range,
    or float16 or float32 in the shot's own encoding. what: names it in errors.
    Raises ClientError for other shapes and types."""
    array = _checked(picture, what)
    return _exr(array) if array.dtype.kind == "f" else _png(array)


def upload_frames(frames: object, first: int) -> tuple[int, Iterator[UploadFrame]]:
    """A shot's frames as messages: how many there are, and they, one after the other.

    frames: (N, H, W, 3), (N, H, W, 4) or (N, H, W); uint8, uint16, float16 or float32. first: the first one's number.
    Raises ClientError for other shapes and types."""
    import numpy as np

    array = np.asarray(frames)
    if array.ndim not in (3, 4) or not len(array):
        raise bad_input(f"The shot is an array of shape {array.shape}; give (frames, height, width, 3).")
    _checked(array[0], "The shot's first frame")
    return len(array), (_upload(frame, first + index) for index, frame in enumerate(array))


def whole_frame(frame: Frame) -> NDArray[np.float32]:
    """A frame's pixels at its full size, 0 outside its bounds. Returns (height, width, channels) float32."""
    import numpy as np

    x, y, width, height = frame.bounds
    whole = np.zeros((frame.height, frame.width, frame.channels), np.float32)
    if width and height:
        inside = np.frombuffer(frame.pixels(), "<f2").reshape(height, width, frame.channels)
        whole[y : y + height, x : x + width] = inside
    return whole


def over(plate: NDArray[np.float32], edit: NDArray[np.float32]) -> NDArray[np.float32]:
    """The painted colour over the plate by its matte: plate where the matte is 0, bit for bit.

    plate: (H, W, 3 or more); edit: (H, W, 4), colour and matte. Returns (H, W, 3) float32."""
    colour, matte = edit[..., :3], edit[..., 3:4]
    result: NDArray[np.float32] = plate[..., :3] + matte * (colour - plate[..., :3])
    return result


def _checked(picture: object, what: str) -> NDArray[Any]:
    import numpy as np

    array = np.asarray(picture)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype.name not in _UPLOAD_TYPES:
        raise bad_input(f"{what} is an array of {array.dtype}; give uint8, uint16, float16 or float32.")
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise bad_input(f"{what} is an array of shape {array.shape}; give (height, width, 3), or 4 with alpha.")
    return array


def _upload(picture: object, number: int) -> UploadFrame:
    array = _checked(picture, f"Frame {number}")
    height, width, channels = array.shape
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return UploadFrame(number, width, height, channels, _UPLOAD_TYPES[array.dtype.name], little.tobytes())


def _png(array: NDArray[Any]) -> bytes:
    """PNG (ISO/IEC 15948) without filters: big-endian samples, rows from the top."""
    height, width, channels = array.shape
    kinds = {1: 0, 3: 2, 4: 6}  # grey, RGB, RGBA
    rows = array.astype(array.dtype.newbyteorder(">")).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8 * array.dtype.itemsize, kinds[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _exr(array: NDArray[Any]) -> bytes:
    """OpenEXR of uncompressed scan lines (openexr.com, "OpenEXR File Layout"), half or float channels."""
    height, width, channels = array.shape
    names = _EXR_CHANNELS[channels]
    order = ["RGBA".index(name) if channels > 1 else 0 for name in names]
    kind = 1 if array.dtype.itemsize == 2 else 2  # HALF, FLOAT
    listed = b"".join(name.encode() + b"\0" + struct.pack("<iB3xii", kind, 0, 1, 1) for name in names) + b"\0"
    box = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    attributes = (
        (b"channels", b"chlist", listed),
        (b"compression", b"compression", b"\0"),
        (b"dataWindow", b"box2i", box),
        (b"displayWindow", b"box2i", box),
        (b"lineOrder", b"lineOrder", b"\0"),
        (b"pixelAspectRatio", b"float", struct.pack("<f", 1)),
        (b"screenWindowCenter", b"v2f", struct.pack("<ff", 0, 0)),
        (b"screenWindowWidth", b"float", struct.pack("<f", 1)),
    )
    header = b"".join(
        name + b"\0" + type_name + b"\0" + struct.pack("<i", len(value)) + value
        for name, type_name, value in attributes
    )
    start = _EXR_MAGIC + header + b"\0"
    line = 8 + width * channels * array.dtype.itemsize
    offsets = b"".join(struct.pack("<Q", len(start) + 8 * height + row * line) for row in range(height))
    planar = array.astype(array.dtype.newbyteorder("<")).transpose(0, 2, 1)[:, order]
    rows = b"".join(struct.pack("<ii", row, line - 8) + planar[row].tobytes() for row in range(height))
    return start + offsets + rows


def need_numpy() -> None:
    """Raises ClientError where pixels are asked for as arrays and this Python has no NumPy."""
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        raise ClientError("FAILED_PRECONDITION", "Pixels as arrays need NumPy: pip install numpy.") from error
