"""What the effect describes to a host: clips, parameters, the engine's methods."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from paintover_bridge.client import Client

from tests.plugin_ofx.conftest import MakeHost, Painted, grey
from tests.plugin_ofx.ofx_host import OK, Effect, Properties

GENERAL = "OfxImageEffectContextGeneral"


def test_the_library_holds_one_effect(make_host: MakeHost) -> None:
    host = make_host()
    assert host._library.OfxGetNumberOfPlugins() == 1
    assert not host._library.OfxGetPlugin(1)
    assert host.plugin.identifier == b"org.paintover.Paintover"


@pytest.mark.parametrize("context", ["OfxImageEffectContextFilter", GENERAL])
def test_clips_and_parameters_are_described_once_each_with_ranges(make_host: MakeHost, context: str) -> None:
    effect = make_host(context=context).describe()
    assert set(effect.clips) == {"Source", "Output", *(["Matte"] if context == GENERAL else [])}
    assert len(effect.defined) == len(set(effect.defined))
    for param in effect.params.values():
        if param.kind in ("OfxParamTypeInteger", "OfxParamTypeDouble"):
            limits = {f"OfxParamProp{name}" for name in ("Min", "Max", "DisplayMin", "DisplayMax", "Default")}
            assert limits <= set(param.properties.values), param.name
    groups = {name for name, param in effect.params.items() if param.kind == "OfxParamTypeGroup"}
    parents = {param.properties.values.get("OfxParamPropParent", [None])[0] for param in effect.params.values()}
    assert parents - {None} <= groups


def test_pages_and_groups_are_in_the_order_of_work(make_host: MakeHost) -> None:
    effect = make_host().describe()
    values = {name: param.properties.values for name, param in effect.params.items()}
    pages = [name for name, param in effect.params.items() if param.kind == "OfxParamTypePage"]
    assert [values[page]["OfxPropLabel"][0] for page in pages] == ["Paint", "Method", "View", "Shot"]
    on_pages = [child for page in pages for child in values[page]["OfxParamPropPageChild"]]
    hidden = [name for name in values if values[name].get("OfxParamPropSecret") == [1]]
    assert on_pages == [name for name in effect.defined if name not in {*pages, *hidden}]
    assert on_pages[:5] == ["status", "paint", "propagate", "cancel", "refresh"]
    for page in pages:  # a group is on its members' page
        children = values[page]["OfxParamPropPageChild"]
        assert {values[child].get("OfxParamPropParent", [children[0]])[0] for child in children} <= set(children)


def test_no_two_parameters_have_one_label(make_host: MakeHost) -> None:
    """ "Steps" stood there three times."""
    effect = make_host().describe()
    groups = ("OfxParamTypePage", "OfxParamTypeGroup")
    labels = [
        param.properties.values["OfxPropLabel"][0] for param in effect.params.values() if param.kind not in groups
    ]
    assert {label for label in labels if labels.count(label) > 1} == set()
    assert "Steps, VP4" in labels
    hint = effect.params["method"].properties.values["OfxParamPropHint"][0]
    assert "\nvp4: Shows an inpainting model" in hint


def test_methods_of_the_first_session_are_the_engines(make_host: MakeHost, client: Client, data_dir: Path) -> None:
    assert not (data_dir / "openfx-methods.bin").exists()
    effect = make_host().describe()
    methods = {method.name: method for method in client.list_methods()}
    assert effect.params["method"].properties.values["OfxParamPropChoiceOption"] == ["best", *methods]
    for method in methods.values():
        for parameter in method.parameters:
            described = effect.params[f"{method.name}_{parameter.name}"].properties.values
            assert described.get("OfxParamPropChoiceOption", []) == list(parameter.choices)
            assert described["OfxPropLabel"][0].startswith(parameter.title)
            assert described["OfxParamPropHint"] == [parameter.help]
            if parameter.HasField("maximum"):
                assert described["OfxParamPropMax"] == [parameter.maximum]


def test_only_the_chosen_methods_parameters_are_shown(make_host: MakeHost, data_dir: Path) -> None:
    host = make_host()
    described = host.describe()
    assert not any(  # described as secret, Nuke never shows them
        param.properties.values.get("OfxParamPropSecret") for name, param in described.params.items() if "_" in name
    )
    effect = host.create({}, grey)

    def shown() -> set[str]:
        params = [param for name, param in effect.params.items() if "_" in name]
        secret = [param.properties.values.get("OfxParamPropSecret", [0])[0] for param in params]
        return {param.name.split("_")[0] for param, hidden in zip(params, secret, strict=True) if not hidden}

    assert effect.params["method"].properties.values["OfxParamPropDefault"] == [0]
    assert shown() == {"draft"}  # of the best, what comes first
    effect.edit("method", "videoshop")
    assert shown() == {"videoshop"}
    effect.edit("method", "best")
    assert shown() == {"draft"}


def test_methods_of_a_newer_engine_are_described_from_then_on(
    make_host: MakeHost, painted: Painted, data_dir: Path
) -> None:
    first = make_host()
    assert first.create({"job": painted.job}, painted.plate("byte")).render(0.0)[0] == OK
    stored = data_dir / "openfx-methods.bin"
    stored.write_bytes(stored.read_bytes().replace(b"draft", b"drawn"))
    effect = make_host().describe()
    assert effect.params["method"].properties.values["OfxParamPropChoiceOption"][:2] == ["best", "drawn"]


@pytest.mark.parametrize("suite", ["OfxPropertySuite", "OfxImageEffectSuite", "OfxParameterSuite"])
def test_a_host_without_a_needed_suite_is_told_so(make_host: MakeHost, suite: str) -> None:
    assert make_host(missing_suites=frozenset([suite])).load() != OK


def test_loading_describing_and_unloading_from_many_threads_is_safe(make_host: MakeHost) -> None:
    host = make_host()
    trouble = []

    def cycle() -> None:
        try:
            for _ in range(20):
                own = Effect(host)
                assert host.load() == OK
                assert own.action("OfxActionDescribe") == OK
                context = Properties({"OfxImageEffectPropContext": ["OfxImageEffectContextFilter"]})
                assert own.action("OfxImageEffectActionDescribeInContext", context) == OK
                assert host.unload() == OK
        except AssertionError as error:
            trouble.append(error)

    threads = [threading.Thread(target=cycle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
