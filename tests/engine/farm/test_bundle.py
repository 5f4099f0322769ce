"""What a bundle holds: checked by Open Job Description's own model, which the `openjd` command uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from openjd.model import StepParameterSpaceIterator, create_job, decode_job_template, preprocess_job_parameters
from paintover_engine.errors import Code, PaintoverError
from paintover_engine.farm import job_file, render
from paintover_engine.farm.bundle import BundleRequest, PaintedFrame, write_bundle
from paintover_engine.farm.render import Step, stages_of
from paintover_engine.methods.registry import find_method, plan_stages, read_parameters

from tests.conftest import SmallShot, make_small_shot


def request(shot: SmallShot, folder: Path, **other: Any) -> BundleRequest:
    given = {
        "source": str(shot.source),
        "frames": None,
        "colorspace": "",
        "stream": None,
        "layer": "",
        "keyframes": [PaintedFrame(frame=shot.key, picture=str(shot.keyframe))],
        "method": "draft",
        "parameters": {},
        "model": "",
        "result": "",
        "mattes": "",
        "overwrite": False,
        "folder": str(folder),
    }
    return BundleRequest.model_validate({**given, **other})


@pytest.fixture
def shot(tmp_path: Path) -> SmallShot:
    """40 frames, a keyframe at 12."""
    return make_small_shot(tmp_path / "shot", count=40, key=12)


def tasks(template: dict[str, Any], step: str, folder: Path, **parameters: str) -> list[str]:
    """The windows of each task of a step, as a farm cuts it."""
    decoded = decode_job_template(template=template, supported_extensions=["TASK_CHUNKING"])
    values = preprocess_job_parameters(
        job_template=decoded, job_parameter_values=parameters, job_template_dir=folder, current_working_dir=folder
    )
    job = create_job(job_template=decoded, job_parameter_values=values)
    space = next(each for each in job.steps if each.name == step).parameterSpace
    return [str(each["Windows"].value) for each in StepParameterSpaceIterator(space=space)]


def test_template_cuts_the_shot_into_windows(shot: SmallShot, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    reply = write_bundle(request(shot, folder))
    assert reply.windows == 5
    template = yaml.safe_load((folder / "template.yaml").read_text())
    assert tasks(template, "Prepare", folder, WindowsPerTask="2") == ["1-2", "3-4", "5-5"]
    assert tasks(template, "Prepare", folder, WindowsPerTask="9") == ["1-5"]
    assert tasks(template, "Propagate", folder) == ["1-2", "3-5"]
    assert [step["name"] for step in template["steps"]] == ["Prepare", "Propagate", "Deliver"]
    assets = yaml.safe_load((folder / "asset_references.yaml").read_text())["assetReferences"]
    assert len(assets["inputs"]["filenames"]) == shot.count
    assert assets["outputs"]["directories"] == []  # the result lies in the bundle


def test_every_stage_is_of_one_task(shot: SmallShot, tmp_path: Path) -> None:
    write_bundle(request(shot, tmp_path / "bundle"))
    job, _ = job_file.read(tmp_path / "bundle" / job_file.NAME)
    spec = find_method(job.method)
    stages = plan_stages(spec, job.info, job.keyframes, read_parameters(spec, job.parameters), job.model)
    cut = [
        stage.key
        for step in (Step.PREPARE, Step.PROPAGATE)
        for window in range(1, job.windows + 1)
        for stage in stages_of(job, stages, [step], (window, window))
    ]
    assert sorted(cut) == sorted(stage.key for stage in stages)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"method": "drft"}, "There is no method 'drft'. Did you mean 'draft'"),
        ({"parameters": {"softness": "much"}}, "softness of draft takes a number"),
        ({"frames": [0, 400]}, "reaches beyond"),
        ({"result": "nowhere/out.mov"}, "There is no folder '.*nowhere'"),
        ({"keyframes": []}, "needs a painted frame"),
    ],
)
def test_bad_input_leaves_no_bundle(shot: SmallShot, tmp_path: Path, other: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PaintoverError, match=sentence):
        write_bundle(request(shot, tmp_path / "bundle", **other))
    assert {path.name for path in tmp_path.iterdir()} == {"shot"}


def test_existing_folder_is_not_replaced(shot: SmallShot, tmp_path: Path) -> None:
    with pytest.raises(PaintoverError, match="name a new folder") as refused:
        write_bundle(request(shot, tmp_path / "shot"))
    assert refused.value.code is Code.ALREADY_EXISTS


@pytest.mark.parametrize("method", ["videoshop", "i2vedit"])
def test_gpu_needs_are_the_methods_own(shot: SmallShot, tmp_path: Path, tiny_svd: Path, method: str) -> None:
    folder = tmp_path / "bundle"
    write_bundle(request(shot, folder, method=method, model=str(tiny_svd)))
    prepare, _, deliver = yaml.safe_load((folder / "template.yaml").read_text())["steps"]
    gpu, memory = prepare["hostRequirements"]["amounts"]
    assert (gpu["name"], gpu["min"]) == ("amount.worker.gpu", 1)
    assert (
        memory["name"] == "amount.worker.gpu.memory" and 572 < memory["min"] < 1500
    )  # what CUDA takes itself, and more
    assert "hostRequirements" not in deliver
    decode_job_template(
        template=yaml.safe_load((folder / "template.yaml").read_text()), supported_extensions=["TASK_CHUNKING"]
    )


def test_windows_outside_the_job_are_a_sentence(shot: SmallShot, tmp_path: Path) -> None:
    write_bundle(request(shot, tmp_path / "bundle"))
    with pytest.raises(PaintoverError, match="windows 1 to 5, not 4-9"):
        job, store, scratch = tmp_path / "bundle" / "job.json", str(tmp_path / "store"), tmp_path / "scratch"
        render.render(job, store, scratch, [Step.PREPARE], (4, 9), str, render.Report(), bool)
