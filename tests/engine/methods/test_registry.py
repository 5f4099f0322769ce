from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from paintover_engine.diffusion import models
from paintover_engine.errors import PaintoverError
from paintover_engine.methods import registry
from paintover_engine.methods.registry import METHODS, Kind, describe_parameters, find_method, read_parameters


def test_job_without_a_model_takes_one_that_is_here(
    tiny_wan: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(models, "_folders", lambda: [tmp_path / "models"])
    monkeypatch.setattr(models, "_hub_snapshots", lambda: iter(()))
    spec = METHODS["flowedit"]
    assert registry.model_name(spec, "") == spec.default_model
    shutil.copytree(tiny_wan("ti2v"), tmp_path / "shipped" / "small-wan")
    assert registry.model_name(spec, "") == spec.default_model  # a small one of ours is asked for by name alone
    shutil.copytree(tiny_wan("ti2v"), tmp_path / "models" / "own")
    shutil.copytree(tiny_wan("vace"), tmp_path / "models" / "another")
    assert registry.model_name(spec, "") == "own"
    assert registry.model_name(METHODS["vace"], "") == "another"
    assert registry.model_name(spec, "small-wan") == "small-wan"
    serves = {model.name: model.methods for model in registry.found_models()}
    assert serves == {"small-wan": ("flowedit", "videoshop"), "another": ("vace",), "own": ("flowedit", "videoshop")}
    shutil.copytree(tiny_wan("ti2v"), tmp_path / "models" / spec.default_model)
    assert registry.model_name(spec, "") == spec.default_model


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(PaintoverError, match=r"no method 'drafft'\. Did you mean 'draft'\?"):
        find_method("drafft")


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(PaintoverError, match=r"no parameter 'softnes'\. Did you mean 'softness'\?"):
        read_parameters(METHODS["draft"], {"softnes": "1"})


def test_value_out_of_range_names_the_range() -> None:
    with pytest.raises(PaintoverError, match=r"softness of draft takes a number from 0 to .*, not '-3'"):
        read_parameters(METHODS["draft"], {"softness": "-3"})
    with pytest.raises(PaintoverError, match=r"mode of draft takes one of auto, .*, not 'loud'"):
        read_parameters(METHODS["draft"], {"mode": "loud"})


@pytest.mark.parametrize("spec", METHODS.values(), ids=METHODS)
def test_parameters_have_help_range_and_valid_default(spec: object) -> None:
    described = describe_parameters(spec)  # type: ignore[arg-type]
    for parameter in described:
        assert parameter.help.endswith("."), parameter.name
        if parameter.kind in (Kind.FLOAT, Kind.INT):
            # Resolve shows (0, 0) for a number without a range.
            assert parameter.minimum is not None and parameter.maximum is not None, parameter.name
            assert parameter.minimum < parameter.maximum
    defaults = {parameter.name: parameter.default for parameter in described}
    assert read_parameters(spec, defaults) == spec.parameters()  # type: ignore[arg-type, attr-defined]
