from __future__ import annotations

from pathlib import Path

import pytest
from paintover_engine.jobs.versions import next_version, version_path


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("/out/shot.mov", "/out/shot_v001.mov"),
        ("/out/sh010.%04d.exr", "/out/v001/sh010.%04d.exr"),
        ("/out/frames", "/out/frames/v001"),
    ],
)
def test_each_kind_of_output_has_its_place_for_versions(asked: str, first: str) -> None:
    assert version_path(asked, 1) == first


@pytest.mark.parametrize("name", ["shot.mov", "sh.####.exr", "frames"])
def test_the_next_version_is_above_all_on_disk_and_all_planned(tmp_path: Path, name: str) -> None:
    asked = str(tmp_path / name)
    assert next_version(asked, []) == 1
    for number in (1, 7):
        taken = Path(version_path(asked, number))
        if taken.suffix == ".exr":
            taken = taken.parent
        taken.mkdir(parents=True)
    assert next_version(asked, []) == 8
    assert next_version(asked, [version_path(asked, 12)]) == 13
    assert next_version(asked, [version_path(asked, 2)]) == 8


def test_a_thousandth_version_keeps_counting(tmp_path: Path) -> None:
    asked = str(tmp_path / "shot.mov")
    Path(version_path(asked, 1000)).write_text("x")
    assert next_version(asked, []) == 1001
