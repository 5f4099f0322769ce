from __future__ import annotations

import json
from pathlib import Path

import pytest
from paintover_engine.errors import PaintoverError
from paintover_engine.jobs.path_mapping import read_rules


def rules(tmp_path: Path, *given: tuple[str, str, str]) -> Path:
    path = tmp_path / "rules.json"
    described = [
        {"source_path_format": kind, "source_path": source, "destination_path": target}
        for kind, source, target in given
    ]
    path.write_text(json.dumps({"version": "pathmapping-1.0", "path_mapping_rules": described}))
    return path


RULES = (
    ("POSIX", "/mnt/shots", "/local/shots"),
    ("POSIX", "/mnt/shots/sh010", "/fast/sh010"),
    ("WINDOWS", "P:\\shots", "/local/p"),
    ("WINDOWS", "\\\\server\\plates", "/local/unc"),
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/mnt/shots/sh020/a.####.exr", "/local/shots/sh020/a.####.exr"),
        ("/mnt/shots/sh010/a.mov", "/fast/sh010/a.mov"),
        ("/mnt/shots2/a.mov", "/mnt/shots2/a.mov"),
        ("/mnt/shots/out/", "/local/shots/out/"),
        ("P:\\shots\\sh010\\a.mov", "/local/p/sh010/a.mov"),
        ("p:/Shots/sh010/a.mov", "/local/p/sh010/a.mov"),
        ("\\\\server\\plates\\a.%04d.exr", "/local/unc/a.%04d.exr"),
        ("Q:\\shots\\a.mov", "Q:\\shots\\a.mov"),
        ("result/", "result/"),
    ],
)
def test_paths_follow_the_longest_rule(tmp_path: Path, path: str, expected: str) -> None:
    found = read_rules(rules(tmp_path, *RULES))(path)
    assert (Path(found), found.endswith("/")) == (Path(expected), expected.endswith("/"))


@pytest.mark.parametrize("text", ["", "{}"])
def test_empty_rules_change_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    assert read_rules(path)("/mnt/a.mov") == "/mnt/a.mov"


def test_other_file_is_no_mapping(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text('{"version": "pathmapping-9"}')
    with pytest.raises(PaintoverError, match=r"rules\.json' cannot be read"):
        read_rules(path)
