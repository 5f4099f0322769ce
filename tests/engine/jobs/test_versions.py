from __future__ import annotations

from pathlib import Path

import pytest
from paintover_engine.jobs.versions import next_version, unversioned_path, version_path


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("/out/shot.mov", "/out/shot_v001.mov"),
        ("/out/sh010.%04d.exr", "/out/v001/sh010.%04d.exr"),
        ("/out/frames", "/out/frames/v001"),
    ],
)
def test_version_path_of_each_kind_of_output(asked: str, first: str) -> None:
    assert version_path(asked, 1) == first


@pytest.mark.parametrize("name", ["shot.mov", "sh.####.exr", "frames"])
def test_next_version_is_above_all_others(tmp_path: Path, name: str) -> None:
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


def test_versions_above_999(tmp_path: Path) -> None:
    asked = str(tmp_path / "shot.mov")
    Path(version_path(asked, 1000)).write_text("x")
    assert next_version(asked, []) == 1001


@pytest.mark.parametrize("path", ["/o/shot.mov", "/o/folder", "/o/sh.####.exr"])
def test_unversioned_path_is_the_inverse(path: str) -> None:
    assert unversioned_path(version_path(path, 12)) == path
    assert unversioned_path(path) == path
