"""What a picture that an artist gives for a frame says."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from paintover_engine.errors import Code, PaintoverError

DragPoint = tuple[float, float, float, float]
"""x, y, to_x, to_y, in pixels from the plate's top left: what was propagated to x, y belongs to to_x, to_y."""


class KeyframeKind(str, enum.Enum):
    """The values are stored and written into job files: add, never rename."""

    PAINT = "paint"
    """The frame as edited: a keyframe."""
    HOLDOUT = "holdout"
    """A matte that corrects the propagated one: where it is white, the edit does not belong."""
    ROTO = "roto"
    """A matte that replaces the propagated one: the edit belongs exactly where it is white."""
    DRAG = "drag"
    """Points of the propagated edit, and where they belong."""


def check_corrected_frames(keyframes: Sequence[int], corrections: Sequence[int]) -> None:
    """Raises PaintoverError where a correction lies on a keyframe's frame, or two lie on one frame."""
    for number in sorted(set(corrections)):
        if number in keyframes:
            raise PaintoverError(
                Code.INVALID_ARGUMENT,
                f"Frame {number} is a keyframe, whose own matte says where it is painted: give that with --matte, or "
                "correct another frame.",
            )
        if corrections.count(number) > 1:
            raise PaintoverError(
                Code.INVALID_ARGUMENT, f"Frame {number} has two corrections; give a holdout, a roto matte or a drag."
            )
