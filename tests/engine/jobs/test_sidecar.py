"""The JSON file beside an output: written with it or not at all, and as its schema says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from paintover_engine.diffusion import models
from paintover_engine.errors import PaintoverError
from paintover_engine.jobs import outputs
from paintover_engine.jobs.folders import DataFolder
from paintover_engine.jobs.protocol import Output
from paintover_engine.jobs.runner import Runner
from paintover_engine.jobs.sidecar import Sidecar
from paintover_engine.jobs.store import Store
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.output import sidecar_path
from paintover_engine.media.source import open_source, probe
from paintover_engine.methods.parameters import DraftParameters
from paintover_engine.methods.stage import KeyframeRef

from tests.conftest import SmallShot
from tools.sidecar_schema import SCHEMA, schema


def runner(shot: SmallShot, folder: Path, output: Output, record: Path | None = None) -> Runner:
    """A draft of a small shot."""
    data = DataFolder(folder)
    data.create()
    info = probe(shot.source)
    with open_source(info) as source:
        keyframe = load_keyframe(shot.keyframe, shot.key, source.read(shot.key), info)
    outputs.save_keyframe(data.keyframes / f"{keyframe.digest}.safetensors", keyframe)
    keys = [KeyframeRef(shot.key, keyframe.digest)]
    return Runner(Store(data), info, "draft", DraftParameters(), keys, output=output, publication=record)


def delivered(shot: SmallShot, tmp_path: Path, output: Output) -> dict[str, Any]:
    with runner(shot, tmp_path / "data", output) as made:
        made.run_all()
        made.deliver(notes=["Frames 8-9 are uncertain."])
        return dict(json.loads(sidecar_path(output.path, made.info).read_text()))


def test_schema_in_docs_is_the_models() -> None:
    assert SCHEMA.read_text() == schema(), "run tools/sidecar_schema.py"


def test_sidecar_says_what_the_output_was_made_of(small_shot: SmallShot, tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out.mkv"))
    found = delivered(small_shot, tmp_path, output)
    Sidecar.model_validate(found)
    info = probe(small_shot.source)
    assert found["source"]["fingerprint"] == info.fingerprint
    assert found["frames"] == {"first": 0, "last": small_shot.count - 1}
    assert [key["frame"] for key in found["keyframes"]] == [small_shot.key]
    assert found["method"] == "draft" and found["model"] is None
    assert found["parameters"] == DraftParameters().model_dump(mode="json")
    assert set(found["confidence"]) == {str(number) for number in range(small_shot.count)}
    assert found["confidence"][str(small_shot.key)] == 1
    assert found["notes"][0] == "Frames 8-9 are uncertain."
    assert found["wall_seconds"] > 0


@pytest.mark.parametrize(
    ("output", "sidecar"),
    [
        ("out.mkv", "out.mkv.paintover.json"),
        ("sh010.####.png", "sh010.png.paintover.json"),
        ("####.png", "frames.png.paintover.json"),
        ("out/", "out/paintover.json"),
    ],
)
def test_sidecar_has_the_outputs_name(small_shot: SmallShot, tmp_path: Path, output: str, sidecar: str) -> None:
    assert sidecar_path(f"{tmp_path}/{output}", probe(small_shot.source)) == tmp_path / sidecar


def test_sidecar_of_another_is_not_replaced(small_shot: SmallShot, tmp_path: Path) -> None:
    other = tmp_path / "out.mkv.paintover.json"
    other.write_text("somebody else's")
    with pytest.raises(PaintoverError, match=r"out\.mkv\.paintover\.json' exists"):
        delivered(small_shot, tmp_path, Output(str(tmp_path / "out.mkv")))
    assert other.read_text() == "somebody else's" and not (tmp_path / "out.mkv").exists()
    assert delivered(small_shot, tmp_path, Output(str(tmp_path / "out.mkv"), overwrite=True))["version"] == 1


def test_outdated_sidecar_is_gone_before_the_first_file(
    small_shot: SmallShot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(f"{tmp_path}/out/sh.####.png", overwrite=True)
    (tmp_path / "out").mkdir()
    delivered(small_shot, tmp_path, output)

    def cut(renames: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("paintover_engine.jobs.publication.replace_files", cut)
    with pytest.raises(PaintoverError):
        delivered(small_shot, tmp_path, output)
    assert not (tmp_path / "out" / "sh.png.paintover.json").exists()


def test_interrupted_publication_finishes_the_sidecar(
    small_shot: SmallShot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, record = Output(str(tmp_path / "out.mkv")), tmp_path / "record.json"
    with runner(small_shot, tmp_path / "data", output, record) as first:
        first.run_all()
        first.deliver()
    text = (tmp_path / "out.mkv.paintover.json").read_bytes()
    with runner(small_shot, tmp_path / "data", output, record) as second:
        second.deliver()
    assert hashlib.sha256((tmp_path / "out.mkv.paintover.json").read_bytes()).digest() == hashlib.sha256(text).digest()


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: own-licence\n---\n", "own-licence"),
        ("# A model\nlicense: none of this\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_licence_is_what_the_model_card_states(tmp_path: Path, card: str | None, licence: str) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert models.licence(models.ModelFolder("own/model", tmp_path, "0" * 16, "svd")) == licence


@pytest.mark.parametrize(("name", "kind"), [("small-svd", "svd"), ("small-inpaint", "inpaint"), ("small-wan", "wan")])
def test_shipped_models_state_their_licence(name: str, kind: str) -> None:
    assert models.licence(models.locate(name, kind)) == "apache-2.0"
