"""The frames of a job whose result is not to be trusted: ranges, with the reason in words, and what to paint next."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from paintover_engine.compose.reason import Reason

LOW_CONFIDENCE = 0.5
"""Below it a frame is unsure."""

_LEAST = 1e-3  # confidence of a frame that is painted anew, at least
_GAP = 2  # surer frames between two unsure ones of the same reason that do not part their range

_CUT = "another scene, across whose cut nothing is carried"
_INTERRUPTED = "the scene is not seen (a flash, a black frame); nothing is painted, and the edit goes on behind it"
_WORDS = {
    Reason.NONE: "the edit may be wrong",
    Reason.OUT_OF_SIGHT: "what is painted is out of sight",
    Reason.LOST: "part of the edit was lost",
    Reason.SPREAD: "the edit spreads onto its surroundings",
    Reason.CHANGED: "what is painted no longer looks as it does on the keyframe",
    Reason.UNCERTAIN: "what moves there is hard to follow (fast, blurred): the edit may be off",
    Reason.DRIFTED: "what is around the edit no longer looks as it does on the keyframe: it may lie elsewhere",
}


class ResultFrame(Protocol):
    """A frame of a result. confidence: 0 to 1; reason: why it is low."""

    @property
    def number(self) -> int: ...
    @property
    def confidence(self) -> float: ...
    @property
    def reason(self) -> Reason: ...


@dataclass(frozen=True)
class UnsureRange:
    """Neighbouring frames that are unsure for one reason.

    first, last: frame numbers, inclusive. worst: the number of the least sure one, confidence: its confidence. cause:
    the reason in words. paintable: a keyframe there would help. confidences: of its frames, by number."""

    first: int
    last: int
    reason: Reason
    worst: int
    confidence: float
    cause: str
    paintable: bool
    confidences: Mapping[int, float]


def unsure_ranges(frames: Sequence[ResultFrame], shot: tuple[int, int]) -> list[UnsureRange]:
    """The ranges of unsure frames among those of a result, which are ascending. shot: its first and last frame."""
    runs: list[list[ResultFrame]] = []
    for frame in (each for each in frames if each.confidence < LOW_CONFIDENCE):
        last = runs[-1][-1] if runs else None
        if last and last.reason == frame.reason and frame.number - last.number <= _GAP + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [_range(run, shot) for run in runs]


def _range(run: Sequence[ResultFrame], shot: tuple[int, int]) -> UnsureRange:
    worst = min(run, key=lambda frame: frame.confidence)
    first, last, reason = run[0].number, run[-1].number, run[0].reason
    interrupted = reason is Reason.NOT_SHOWN and shot[0] < first and last < shot[1]
    cause = (_INTERRUPTED if interrupted else _CUT) if reason is Reason.NOT_SHOWN else _WORDS[reason]
    paintable = not interrupted and reason is not Reason.OUT_OF_SIGHT
    confidences = {frame.number: frame.confidence for frame in run}
    return UnsureRange(first, last, reason, worst.number, worst.confidence, cause, paintable, confidences)


def suggested_keyframes(ranges: Sequence[UnsureRange]) -> list[int]:
    """Frames to paint next, the stretch with the least sure frame first: one of each stretch of neighbouring ranges
    that a keyframe would help."""
    stretches: list[list[UnsureRange]] = []
    for each in (one for one in ranges if one.paintable):
        if stretches and each.first - stretches[-1][-1].last <= _GAP + 1:
            stretches[-1].append(each)
        else:
            stretches.append([each])
    stretches.sort(key=lambda stretch: min(one.confidence for one in stretch))
    return [
        _most_helpful(dict(itertools.chain(*(one.confidences.items() for one in stretch)))) for stretch in stretches
    ]


def _most_helpful(confidences: Mapping[int, float]) -> int:
    """Of the least sure quarter of some frames, the one whose painting would raise the confidence of all of them most.

    Confidences fall along the way, so that what is painted on one frame is as sure on another as the ratio of their
    confidences. Where that is low beside the frame, too, it shows what its neighbours do not, or hardly shows what is
    painted: little is gained from there."""
    least = sorted(confidences, key=lambda number: confidences[number])[: max(1, len(confidences) // 4)]

    def gained(painted: int) -> float:
        own = max(confidences[painted], _LEAST)
        ratios = ((min(own, each) / max(own, each), each) for each in confidences.values())
        return sum(max(0.0, ratio - each) for ratio, each in ratios)

    return max(least, key=gained)
