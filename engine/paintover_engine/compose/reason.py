"""Why a frame's result is not to be trusted."""

from __future__ import annotations

import enum


class Reason(enum.IntEnum):
    """What is wrong with a frame. The numbers are stored and go over the wire: add, never renumber."""

    NONE = 0
    NOT_SHOWN = 1
    """The frame does not show the keyframe's scene: a cut, a flash, a black frame."""
    OUT_OF_SIGHT = 2
    """What is painted is hidden or has left the frame."""
    LOST = 3
    """Part of the edit was lost, although its surface is still in the frame."""
    SPREAD = 4
    """The edit covers what looks like the keyframe's surroundings."""
    CHANGED = 5
    """What lies under the edit looks unlike what was painted over on the keyframe."""
    DRIFTED = 6
    """The edit's surroundings look unlike the keyframe's: it may lie on another thing."""
    UNCERTAIN = 7
    """The motion there is hard to follow: fast, blurred, or long since anything certain was seen."""
