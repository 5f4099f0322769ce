"""What the artist painted survives every output."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from paintover_bridge.client import Client
from paintover_bridge.errors import ClientError

from tests.conftest import SmallShot


@pytest.mark.parametrize("target", ["output", "mattes"])
def test_a_painting_survives_an_output_over_it(
    target: str, client: Client, small_shot: SmallShot, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    painting = folder / f"{small_shot.key:05d}.png"
    shutil.copyfile(small_shot.keyframe, painting)
    os.symlink(painting, tmp_path / "linked.png")
    before = painting.read_bytes()
    shot = client.create_shot(small_shot.source)
    client.put_keyframe(shot.name, small_shot.key, tmp_path / "linked.png")
    places = {"output": tmp_path / "result", "mattes": tmp_path / "mattes", target: folder}
    with pytest.raises(ClientError, match="keyframe or a matte"):
        client.create_job(shot.name, overwrite=True, output=str(places["output"]), mattes=str(places["mattes"]))
    assert painting.read_bytes() == before
    assert os.listdir(folder) == [painting.name]


def test_a_painting_put_after_its_job_survives(client: Client, small_shot: SmallShot, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    painting = folder / f"{small_shot.key:05d}.png"
    shutil.copyfile(small_shot.keyframe, painting)
    before = painting.read_bytes()
    shot = client.create_shot(small_shot.source)
    job = client.create_job(shot.name, overwrite=True, output=str(folder), await_keyframe=True)
    client.put_keyframe(shot.name, small_shot.key, painting)
    assert client.wait_until_finished(job.name, 60)
    assert "keyframe or a matte" in client.get_job(job.name).message
    assert painting.read_bytes() == before


def test_a_frame_to_paint_is_not_exported_over_the_source(client: Client, small_shot: SmallShot) -> None:
    shot = client.create_shot(small_shot.source)
    frame = small_shot.source / "00003.png"
    before = frame.read_bytes()
    with pytest.raises(ClientError, match="source itself"):
        client.export_frame(shot.name, 4, frame, overwrite=True)
    assert frame.read_bytes() == before
