"""Copies of a project, of an effect, and the same project on another day: who paints on which file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from paintover_bridge.client import Client

from tests.conftest import SmallShot
from tests.plugin_ofx.conftest import MakeHost
from tests.plugin_ofx.ofx_host import Effect
from tests.plugin_ofx.test_effects import propagate, source_of

pytestmark = pytest.mark.usefixtures("data_dir")


@pytest.fixture(autouse=True)
def no_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The painting program is one that does nothing."""
    monkeypatch.setenv("PAINTOVER_OPEN", f'"{sys.executable}" -c pass')


def paint(effect: Effect, work: bytes = b"") -> Path:
    """Presses "Paint this frame" at frame 4, and paints `work`; the painting."""
    effect.edit("paint", time=4.0)
    path = Path(effect.params["keyframePath"].value)
    if work:
        path.write_bytes(work)
    return path


def test_project_and_its_copy_open_in_two_programs(make_host: MakeHost, small_shot: SmallShot) -> None:
    """Each library has its own locks, as another process has."""
    first = make_host().create({}, source_of(small_shot))
    painted = paint(first, b"of the original")
    project = first.saved()
    first.destroy()

    original, copy = (make_host().create(project, source_of(small_shot)) for _ in range(2))
    assert paint(original) == painted
    other = paint(copy)
    assert other != painted and other.read_bytes() == b"of the original"
    other.write_bytes(b"of the copy")
    assert painted.read_bytes() == b"of the original"
    assert copy.params["effectId"].value != original.params["effectId"].value == project["effectId"]
    assert str(other) in copy.params["keyframes"].value and str(painted) not in copy.params["keyframes"].value
    copy.destroy()
    original.destroy()


def test_project_whose_copy_was_worked_on_parts_from_it(make_host: MakeHost, small_shot: SmallShot) -> None:
    """One after the other, each in a session of its own: the second to act gets files of its own."""
    effect = make_host().create({}, source_of(small_shot))
    painted = paint(effect, b"Monday")
    project = effect.saved()
    effect.destroy()
    copy = make_host().create(project, source_of(small_shot))
    assert paint(copy, b"Tuesday, in the copy") == painted
    saved_as = copy.saved()
    copy.destroy()

    original = make_host().create(project, source_of(small_shot))
    own = paint(original)
    assert own != painted and own.read_bytes() == b"Tuesday, in the copy"  # no work is ever hidden
    own.write_bytes(b"Wednesday")
    original.destroy()
    copy = make_host().create(saved_as, source_of(small_shot))
    assert paint(copy) == painted and painted.read_bytes() == b"Tuesday, in the copy"
    copy.destroy()


@pytest.mark.parametrize("saves", [True, False])
def test_project_goes_on_with_its_paintings_next_day(make_host: MakeHost, small_shot: SmallShot, saves: bool) -> None:
    """Also after a session that crashed before it was saved."""
    effect = make_host().create({}, source_of(small_shot))
    painted = paint(effect, b"Monday")
    project = effect.saved()
    effect.destroy()
    for day in (b"Tuesday", b"Wednesday"):
        effect = make_host().create(project, source_of(small_shot))
        assert paint(effect, day) == painted
        assert effect.params["effectId"].value == project["effectId"]
        if saves:
            project = effect.saved()
        effect.destroy()
    assert painted.read_bytes() == b"Wednesday"


def test_duplicated_node_of_a_recreated_effect(make_host: MakeHost, small_shot: SmallShot) -> None:
    """Resolve creates instances anew with each look at a clip."""
    host = make_host()
    effect = host.create({}, source_of(small_shot))
    painted = paint(effect, b"mine")
    values = effect.saved()
    effect.destroy()
    effect = host.create(values, source_of(small_shot))
    assert paint(effect) == painted
    duplicate = effect.copy()
    other = paint(duplicate, b"the duplicate's")
    assert other != painted and painted.read_bytes() == b"mine"
    effect.destroy()
    assert paint(duplicate) == other


def test_copies_send_their_frames_apart(make_host: MakeHost, client: Client, small_shot: SmallShot) -> None:
    values = {"keyframePath": str(small_shot.keyframe), "keyframeFrame": small_shot.key}
    effect = make_host().create(values, source_of(small_shot))
    jobs = [propagate(effect, client)]
    copy = make_host().create(effect.saved(), source_of(small_shot))
    copy.edit("draft_softness", 3.0)
    jobs.append(propagate(copy, client))
    shots = {client.get_job(job).spec.shot for job in jobs}
    assert len(shots) == 2
