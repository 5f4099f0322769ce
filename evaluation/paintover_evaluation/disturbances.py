"""What happens to footage and to keyframes in practice, done alike to a shot and to its true edit, so that the answer
stays exact.

Pictures are (H, W, 3) uint8 RGB. A disturbance of a shot takes its frames to as many or more; one of a keyframe takes
the true picture of the first frame, and that of the second, to the file that a program might have written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Frame = NDArray[np.uint8]
Frames = Sequence[Frame]

_AT = 5  # the frame that something happens at
_RANGE = (219 / 255, 16.0)  # of limited range, as a gain and a lift (ITU-R BT.709-6, item 5.3)


def exposed(frame: Frame, gain: float, lift: float = 0.0) -> Frame:
    """gain · frame + lift in 8-bit levels, clipped and cut off, as a camera does."""
    return np.asarray(np.clip(frame * gain + lift, 0, 255), np.uint8)


def _each(change: Callable[[Frame, int], Frame]) -> Callable[[Frames], list[Frame]]:
    """The disturbance that changes each frame by its number."""
    return lambda frames: [change(frame, number) for number, frame in enumerate(frames)]


def _repeated(times: Callable[[int], int]) -> Callable[[Frames], list[Frame]]:
    return lambda frames: [frame for number, frame in enumerate(frames) for _ in range(times(number))]


def _jumped(degrees: float, shift: tuple[float, float]) -> Callable[[Frames], list[Frame]]:
    """From frame `_AT` on the camera looks elsewhere; a margin is cut off, so that no border shows."""

    def change(frame: Frame, number: int) -> Frame:
        height, width = frame.shape[:2]
        if number >= _AT:
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
            matrix[:, 2] += shift
            frame = np.asarray(cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
        return np.ascontiguousarray(frame[height // 8 : -(height // 8), width // 8 : -(width // 8)])

    return _each(change)


def _zoomed_out(frames: Frames) -> list[Frame]:
    """From the middle two thirds to the whole frame."""
    zoomed = []
    for number, frame in enumerate(frames):
        height, width = frame.shape[:2]
        scale = 1.5 - 0.5 * number / max(1, len(frames) - 1)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, scale)
        zoomed.append(np.asarray(cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_AREA), np.uint8))
    return zoomed


SHOTS: Mapping[str, Callable[[Frames], list[Frame]]] = {
    "undisturbed": list,
    "on twos": _repeated(lambda number: 2),
    "on threes": _repeated(lambda number: 3),
    "pulldown": _repeated(lambda number: 2 if number % 4 == 0 else 1),
    "one flash": _each(lambda frame, n: exposed(frame, 2.5, 30) if n == _AT else frame),
    "two flashes": _each(lambda frame, n: exposed(frame, 2.5, 30) if n in (_AT, _AT + 4) else frame),
    "one black frame": _each(lambda frame, n: exposed(frame, 0) if n == _AT else frame),
    "three black frames": _each(lambda frame, n: exposed(frame, 0) if _AT <= n < _AT + 3 else frame),
    "strobe": _each(lambda frame, n: exposed(frame, 0.35) if n % 2 else frame),
    "lights off": _each(lambda frame, n: exposed(frame, 0.45) if n > _AT else frame),
    "fade down to 30 %": _each(lambda frame, n: exposed(frame, max(0.3, 1 - n / 20))),
    "fade up": _each(lambda frame, n: exposed(frame, min(1.5, 0.5 + n / 15))),
    "jump of the camera": _jumped(0, (60, 25)),
    "jump with rotation": _jumped(7, (40, 15)),
    "slow zoom out": _zoomed_out,
}
"""By name, what happens to a shot."""


def shifted(picture: Frame, x: float, y: float) -> Frame:
    """A picture moved by some pixels, its border repeated."""
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _png(picture: Frame) -> tuple[str, bytes]:
    return _coded(picture, ".png", [])


def _coded(picture: Frame, ending: str, options: list[int]) -> tuple[str, bytes]:
    return ending, cv2.imencode(ending, np.ascontiguousarray(picture[..., ::-1]), options)[1].tobytes()


def _indexed(dither: Image.Dither) -> Callable[[Frame, Frame], tuple[str, bytes]]:
    """A GIF of 256 colours."""

    def change(key: Frame, after: Frame) -> tuple[str, bytes]:
        picture, written = Image.fromarray(key), io.BytesIO()
        picture.quantize(palette=picture.quantize(256), dither=dither).save(written, "GIF")
        return ".gif", written.getvalue()

    return change


def _curve(picture: Frame, exponent: float) -> Frame:
    return np.rint(255 * (picture / 255.0) ** exponent).astype(np.uint8)


def _jpeg(quality: int) -> Callable[[Frame, Frame], tuple[str, bytes]]:
    return lambda key, after: _coded(key, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


KEYFRAMES: Mapping[str, Callable[[Frame, Frame], tuple[str, bytes]]] = {
    "key shifted by 1 px": lambda key, after: _png(shifted(key, 1, 0)),
    "key shifted by half a pixel": lambda key, after: _png(shifted(key, 0.5, 0)),
    "key shifted by 2.3, -1.6 px": lambda key, after: _png(shifted(key, 2.3, -1.6)),
    "key of the next frame": lambda key, after: _png(after),
    "limited range": lambda key, after: _png(exposed(key, *_RANGE)),
    "full range": lambda key, after: _png(exposed(key, 1 / _RANGE[0], -_RANGE[1] / _RANGE[0])),
    "gamma 1.96 for 2.2": lambda key, after: _png(_curve(key, 1.96 / 2.2)),
    "gamma 2.4 for 2.2": lambda key, after: _png(_curve(key, 2.4 / 2.2)),
    "JPEG 90": _jpeg(90),
    "JPEG 75": _jpeg(75),
    "JPEG 60": _jpeg(60),
    "GIF": _indexed(Image.Dither.NONE),
    "dithered GIF": _indexed(Image.Dither.FLOYDSTEINBERG),
    "WebP 75": lambda key, after: _coded(key, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 75]),
}
"""By name, what happens to a keyframe: its file's ending and bytes, from the true first frame and the one after it."""
