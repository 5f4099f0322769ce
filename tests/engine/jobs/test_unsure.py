"""The ranges of unsure frames that a job names, and what it suggests to paint next."""

from __future__ import annotations

from paintover.v1 import job_pb2
from paintover_engine.compose.reason import Reason
from paintover_engine.jobs.entities import JobFrame
from paintover_engine.jobs.unsure import suggested_keyframes, unsure_ranges

SHOT = (0, 20)


def frame(number: int, confidence: float, reason: Reason = Reason.LOST) -> JobFrame:
    return JobFrame(number, "key", confidence, reason)


def test_neighbours_of_one_reason_are_one_range() -> None:
    frames = [frame(3, 0.4), frame(4, 0.2), frame(5, 0.9), frame(6, 0.3), frame(7, 0.1, Reason.SPREAD), frame(15, 0.4)]
    ranges = unsure_ranges(frames, SHOT)
    assert [(each.first, each.last, each.worst, each.reason) for each in ranges] == [
        (3, 6, 4, Reason.LOST),
        (7, 7, 7, Reason.SPREAD),
        (15, 15, 15, Reason.LOST),
    ]


def test_least_sure_frame_of_a_stretch_is_suggested_first() -> None:
    frames = [frame(3, 0.4), frame(4, 0.2), frame(5, 0.1, Reason.SPREAD), frame(15, 0.05), frame(18, 0.06)]
    assert suggested_keyframes(unsure_ranges(frames, SHOT)) == [15, 5]


def test_frame_that_hardly_shows_the_edit_is_not_suggested() -> None:
    """The last frames of a shot, where the object hides: from the frame before that more of the others are reached."""
    falling = [frame(number, 0.45 - 0.02 * number) for number in range(1, 17)]
    hidden = [frame(17, 0.004), frame(18, 0.0015), frame(19, 0.002)]
    (suggested,) = suggested_keyframes(unsure_ranges([*falling, *hidden], SHOT))
    assert suggested == 16


def test_flash_is_told_from_a_cut_and_not_suggested() -> None:
    flash, cut = frame(5, 0.0, Reason.NOT_SHOWN), [frame(n, 0.0, Reason.NOT_SHOWN) for n in range(12, 21)]
    ranges = unsure_ranges([flash, *cut], SHOT)
    assert ["flash" in each.cause for each in ranges] == [True, False]
    assert "cut" in ranges[1].cause
    assert suggested_keyframes(ranges) == [12]


def test_what_is_out_of_sight_is_not_to_be_painted() -> None:
    ranges = unsure_ranges([frame(9, 0.001, Reason.OUT_OF_SIGHT)], SHOT)
    assert "out of sight" in ranges[0].cause
    assert suggested_keyframes(ranges) == []


def test_sure_frames_have_no_range() -> None:
    assert unsure_ranges([frame(number, 0.8, Reason.CHANGED) for number in range(5)], SHOT) == []


def test_every_reason_has_its_words_and_its_number_on_the_wire() -> None:
    for reason in Reason:
        assert unsure_ranges([frame(9, 0.1, reason)], SHOT)[0].cause
    on_the_wire = {name.removeprefix("UNSURE_REASON_"): number for name, number in job_pb2.UnsureReason.items()}
    assert {"UNSPECIFIED" if reason is Reason.NONE else reason.name: int(reason) for reason in Reason} == on_the_wire
