"""An engine that may touch some folders only (`--root`), and clients that want others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paintover.v1 import job_pb2
from paintover_bridge.client import Client, connect
from paintover_bridge.errors import ClientError
from paintover_engine.errors import PaintoverError
from paintover_engine.jobs.roots import AllowedRoots

from tests.conftest import SmallShot, make_small_shot

CONFINE = """
import sys
from pathlib import Path
from paintover_engine.jobs.confinement import confine
print(confine([Path(sys.argv[1])], Path(sys.argv[2])))
"""


def run_confined(root: Path, data: Path, program: str = "") -> str:
    (data / "temporary").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", CONFINE + program, str(root), str(data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def landlock(tmp_path: Path) -> None:
    if run_confined(tmp_path, tmp_path / "probe") != "True\n":
        pytest.skip("this kernel confines no process (Landlock)")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def shot(root: Path) -> SmallShot:
    return make_small_shot(root / "shot", count=8)


@pytest.fixture
def secret(tmp_path: Path) -> SmallShot:
    """Another shot, outside."""
    return make_small_shot(tmp_path / "secret", count=8)


@pytest.fixture
def client(data_dir: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("PAINTOVER_ENGINE", f'{sys.executable} -m paintover_engine.service --root "{root}"')
    with connect(data_dir, ephemeral=False) as connected:
        yield connected
        connected.stop_engine(when_idle=False)


def finished(client: Client, job: job_pb2.Job) -> job_pb2.Job:
    assert client.wait_until_finished(job.name, 120)
    return client.get_job(job.name)


def test_what_lies_below_the_root_is_propagated(client: Client, shot: SmallShot, root: Path) -> None:
    source = client.create_shot(shot.source)
    client.put_keyframe(source.name, shot.key, shot.keyframe)
    (root / "out").mkdir()
    job = finished(client, client.create_job(source.name, output=root / "out" / "frame.%05d.png"))
    assert job.state == job_pb2.JOB_STATE_DONE, job.message
    assert len(list((root / "out").glob("*.png"))) == shot.count


def test_a_sequence_with_a_link_to_outside_is_refused(client: Client, shot: SmallShot, secret: SmallShot) -> None:
    frame = shot.source / "00003.png"
    frame.unlink()
    frame.symlink_to(secret.source / "00003.png")
    for source in (shot.source, shot.source / "%05d.png", frame, shot.source / "00001.png"):
        with pytest.raises(ClientError, match="outside the folders that this engine may touch") as refused:
            client.create_shot(source)
        assert refused.value.code == "PERMISSION_DENIED"


def test_a_link_within_the_root_is_followed(client: Client, shot: SmallShot) -> None:
    frame = shot.source / "00003.png"
    frame.rename(shot.source.parent / "elsewhere.png")
    frame.symlink_to(shot.source.parent / "elsewhere.png")
    assert client.create_shot(shot.source)


@pytest.mark.parametrize("name", ["../../secret", "models/../../secret", "~/secret", "{outside}", "secret"])
def test_a_models_name_leads_nowhere_else(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "secret").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    roots = AllowedRoots([root])
    with pytest.raises(PaintoverError, match="outside the folders"):
        roots.check_model(name.format(outside=tmp_path / "secret"))
    roots.check_model("small-svd")
    AllowedRoots([]).check_model("../../secret")


@pytest.mark.parametrize("path", ["{root}/../secret/a.png", "{root}/../../etc/passwd", "{root}/link/a.png"])
def test_a_way_out_of_the_root_is_refused(tmp_path: Path, root: Path, path: str) -> None:
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(PaintoverError, match="outside the folders"):
        AllowedRoots([root]).check(path.format(root=root), "The source")


def test_a_confined_process_opens_nothing_outside(landlock: None, tmp_path: Path, root: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (root / "file").symlink_to(outside / "file")
    (root / "folder").symlink_to(outside)
    program = f"""
import os
for work in (
    lambda: open({str(root / "file")!r}).read(),
    lambda: open({str(outside / "file")!r}).read(),
    lambda: open({str(root / "folder" / "new")!r}, "w"),
    lambda: os.listdir({str(root / "folder")!r}),
    lambda: os.rename({str(root / "own")!r}, {str(outside / "own")!r}),
):
    try:
        print("done", work())
    except PermissionError:
        print("refused")
open({str(root / "own")!r}, "w").close()
os.rename({str(root / "own")!r}, {str(tmp_path / "data" / "own")!r})
"""
    program = program.replace("import os\n", f"import os\nopen({str(root / 'own')!r}, 'w').close()\n", 1)
    assert run_confined(root, tmp_path / "data", program).split() == ["True", *["refused"] * 5]
    assert [entry.name for entry in outside.iterdir()] == ["file"]


def test_a_frame_swapped_for_a_link_is_not_read(
    landlock: None, client: Client, shot: SmallShot, secret: SmallShot, root: Path
) -> None:
    source = client.create_shot(shot.source)
    client.put_keyframe(source.name, shot.key, shot.keyframe)
    (shot.source / "00006.png").unlink()
    (shot.source / "00006.png").symlink_to(secret.source / "00006.png")
    job = finished(client, client.create_job(source.name))
    assert job.state == job_pb2.JOB_STATE_FAILED
    with pytest.raises(ClientError):
        client.export_frame(source.name, 6, root / "leak.png")
    assert not (root / "leak.png").exists()


def test_an_output_folder_swapped_for_a_link_is_not_written(
    landlock: None, client: Client, shot: SmallShot, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "out").mkdir()
    source = client.create_shot(shot.source)
    job = client.create_job(source.name, output=root / "out" / "frame.%05d.png", await_keyframe=True)
    shutil.rmtree(root / "out")
    os.symlink(outside, root / "out")
    client.put_keyframe(source.name, shot.key, shot.keyframe)
    assert finished(client, job).state == job_pb2.JOB_STATE_FAILED
    assert not list(outside.iterdir())
