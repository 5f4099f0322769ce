"""What happened to the plate's frames while an edit was tracked through them, in sentences for the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paintover_engine.compose.exposure import Exposure
from paintover_engine.compose.scene import FrameEvent
from paintover_engine.compose.tracker import Propagated
from paintover_engine.methods.stage import Context, Stage
from paintover_engine.methods.tracking import propagate

_MOST = 6  # ranges of frames that a sentence names


def sentences(context: Context, stages: Sequence[Stage]) -> list[str]:
    """Sentences about the frames that the `propagate` stages among a job's reached. What hides the scene is not named:
    those frames are unsure, with that reason."""
    events: dict[int, FrameEvent] = {}
    brighter: set[int] = set()
    for stage in stages:
        if stage.function is propagate:
            found = context.load(stage)
            for index, number in enumerate(range(stage.frames[0], stage.frames[1] + 1)):
                events[number] = events.get(number, FrameEvent(0)) | FrameEvent(int(found.events[index]))
                brighter |= {number} if _is_brighter(found, index) else set()
    return list(_sentences(events, brighter))


def _is_brighter(propagated: Propagated, index: int) -> bool:
    """Whether a frame is brighter than the keyframe."""
    exposure = Exposure.unpacked(propagated.exposure[index])
    return float((exposure.gain + exposure.lift).mean()) > 1


def _sentences(events: Mapping[int, FrameEvent], brighter: set[int]) -> Iterable[str]:
    passed = {number for number, event in events.items() if event & FrameEvent.PASSED}
    flashes, dark = passed & brighter, passed - brighter
    if flashes:
        yield f"A flash at {in_words(flashes)}: tracked across it."
    if dark:
        yield f"Almost black at {in_words(dark)}: tracked across it."
    lit = {number for number, event in events.items() if event & FrameEvent.LIGHT} - passed
    lit -= {number for number in lit if events[number] & FrameEvent.ACROSS}
    if lit:
        yield f"The light changes at {in_words(lit)}: the paint is exposed as its frames are."
    if jumps := [number for number, event in events.items() if event & FrameEvent.JUMP]:
        yield f"The picture jumps at {in_words(jumps)}: the edit was found again behind it."
    if copies := [number for number, event in events.items() if event & FrameEvent.REPEATED]:
        yield f"The picture stands still at {in_words(copies)}: painted as the frame beside it."


def in_words(numbers: Iterable[int]) -> str:
    """Frame numbers as ranges: "3-5, 9"; of very many the first ones, "… and 12 more frames"."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_MOST]]
    others = sum(last - first + 1 for first, last in ranges[_MOST:])
    return ", ".join(shown) + (f" and {others} more frames" if others else "")
