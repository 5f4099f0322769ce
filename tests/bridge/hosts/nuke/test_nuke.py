"""Paintover's scripts in a stand-in of Nuke: what becomes the shot, what the command is asked, what the script gets."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paintover_bridge.hosts.command import HostError

if TYPE_CHECKING:
    from tests.conftest import SmallShot

STANDIN = Path(__file__).with_name("standin")
REPLAY_COMMAND = Path(__file__).parents[1] / "replay_command.py"
OURS = "paintover_bridge.hosts.nuke"


@dataclass
class Host:
    """Nuke with Paintover's modules loaded anew."""

    nuke: Any
    folder: Path

    def module(self, name: str) -> Any:
        return importlib.import_module(f"{OURS}.{name}" if name else OURS)

    def says(self, *events: dict[str, Any]) -> None:
        (self.folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")

    def recorded_arguments(self) -> list[list[str]]:
        path = self.folder / "arguments.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def read(self, file: str = "/plates/sh010.%04d.exr", **knobs: Any) -> Any:
        knobs = {"first": 1001, "last": 1048, "origfirst": 1001, "origlast": 1048, **knobs}
        return self.nuke.nodes.Read(file=file, **knobs)

    def until_ended(self, *sessions: Any) -> None:
        self.nuke.pump(lambda: all(session.ended for session in sessions))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.syspath_prepend(str(STANDIN))
    monkeypatch.setenv("PAINTOVER_COMMAND", f"{sys.executable} '{REPLAY_COMMAND}'")
    monkeypatch.setenv("RECORDED_ARGUMENTS", str(tmp_path / "arguments.jsonl"))
    monkeypatch.setenv("REPLAYED_EVENTS", str(tmp_path / "events.jsonl"))
    yield Host(importlib.import_module("nuke"), tmp_path)
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("nuke", "nukescripts") or name.startswith(OURS)
    ]:
        del sys.modules[name]


# What becomes the shot.


def test_a_reads_own_files_are_the_shot(host: Host) -> None:
    shot = host.module("shot").of(host.read(colorspace="ACES - ACEScg"))
    assert (shot.source, shot.first, shot.last, shot.shift) == ("/plates/sh010.%04d.exr", 1001, 1048, 0)
    assert shot.colorspace == "ACES - ACEScg"
    assert host.nuke.renders == []


def test_video_frame_0_is_nuke_frame_1(host: Host) -> None:
    shot = host.module("shot").of(host.read("/media/a b.mov", first=1, last=48, origfirst=1, origlast=48))
    assert (shot.first, shot.last, shot.shift) == (0, 47, 1)


@pytest.mark.parametrize("name", ["sRGB", "linear", "default (sRGB)", "AlexaV3LogC", "default"])
def test_nuke_curves_leave_the_files_colour_space(host: Host, name: str) -> None:
    assert host.module("shot").opencolorio(name) == ""


def test_the_default_of_an_opencolorio_script_is_named(host: Host) -> None:
    assert host.module("shot").opencolorio("default (ACES - ACEScg)") == "ACES - ACEScg"


@pytest.mark.parametrize("knobs", [{"frame_mode": "offset", "frame": "10"}, {"frame": "frame*2"},
                                   {"frame_mode": "start at", "frame": "1"}])  # fmt: skip
def test_a_read_that_is_moved_in_time_is_rendered(host: Host, knobs: dict[str, str]) -> None:
    host.nuke.current["script"] = str(host.folder / "comp.nk")
    node = host.read(**knobs)
    node.range = (1, 3)
    shot = host.module("shot").of(node)
    assert host.nuke.renders == [(shot.source, 1, 3)]


def test_other_nodes_are_rendered_to_the_working_space(host: Host) -> None:
    host.nuke.current["script"] = str(host.folder / "comp.nk")
    host.nuke.root()["workingSpaceLUT"].setValue("ACES - ACEScg")
    blur = host.nuke.Node("Blur")
    blur.range = (5, 8)
    module = host.module("shot")
    shot = module.of(blur)
    assert module.of(blur) == shot and len(host.nuke.renders) == 1
    assert (shot.first, shot.last, shot.colorspace, shot.read) == (5, 8, "ACES - ACEScg", {"raw": True})
    assert min(path.name for path in Path(shot.source).parent.glob("*.exr")) == "Blur1.0005.exr"
    assert Path(shot.source).is_relative_to(host.folder / "paintover")
    assert host.nuke.allNodes("Write") == []
    blur.hash = 8  # something before it has changed
    assert module.of(blur).source != shot.source and len(host.nuke.renders) == 2


def test_cancelled_render_is_one_sentence_and_retried(host: Host) -> None:
    host.nuke.current.update(script=str(host.folder / "comp.nk"), render="Cancelled")
    blur = host.nuke.Node("Blur")
    blur.range = (5, 8)
    with pytest.raises(HostError, match=r"^Blur1 was not rendered: Cancelled\.$"):
        host.module("shot").of(blur)
    assert host.nuke.allNodes("Write") == []
    host.nuke.current["render"] = ""
    host.module("shot").of(blur)
    assert len(host.nuke.renders) == 1


@pytest.mark.parametrize(
    ("file", "message"),
    [("", "reads no file"), ("/a/still.exr", "reads a still"), ("/a/sh.%V.%04d.exr", "several views")],
)
def test_what_is_no_shot_is_refused(host: Host, file: str, message: str) -> None:
    with pytest.raises(HostError, match=message):
        host.module("shot").of(host.read(file))


def test_one_frame_is_nothing_to_carry_an_edit_through(host: Host) -> None:
    with pytest.raises(HostError, match="has one frame"):
        host.module("shot").of(host.nuke.Node("Constant"))


# NodePainting.

SAVED = [
    {"event": "exported", "path": "/p/sh010_1012.psd", "frame": 1012},
    {"event": "saved", "path": "/p/sh010_1012.psd"},
    {"event": "progress", "fraction": 0.5},
]


def paint(host: Host, node: Any, *events: dict[str, Any], frame: int = 1012) -> list[str]:
    host.says(*events)
    events: list[str] = []
    session = host.module("session").NodePainting(node, frame, lambda what, event: events.append(what))
    host.until_ended(session)
    return events


def test_save_creates_a_read_with_range_and_colour_space(host: Host) -> None:
    node = host.read(colorspace="ACES - ACEScg", premultiplied=True)
    node.setXYpos(100, 50)
    events = paint(host, node, *SAVED, {"event": "done", "output": "/out/v001/sh010.%04d.exr"})
    assert events == ["exported", "saved", "progress", "done", "ended"]
    [arguments] = host.recorded_arguments()
    assert arguments == ["paint", "/plates/sh010.%04d.exr", "--frame", "1012", "--method", "draft", "--range=1001-1048",
                         "--colorspace", "ACES - ACEScg", "-o", "/plates/paintover/sh010_paintover/sh010.%04d.exr",
                         "--versioned", "--json"]  # fmt: skip
    read = host.module("session").result_read(node)
    assert read["file"].value() == "/out/v001/sh010.%04d.exr"
    assert (read["first"].value(), read["last"].value(), read["origfirst"].value()) == (1001, 1048, 1001)
    assert read["colorspace"].value() == "ACES - ACEScg" and read["premultiplied"].value() is True
    assert (read.xpos(), read.ypos()) == (220, 50)
    assert host.nuke.undone == ["Paintover"]


def test_next_save_updates_the_same_read(host: Host) -> None:
    node = host.read()
    done = [{"event": "done", "output": f"/out/v00{version}/sh010.%04d.exr"} for version in (1, 2)]
    paint(host, node, *SAVED, done[0], *SAVED[1:], done[1])
    reads = [read for read in host.nuke.allNodes("Read") if read is not node]
    assert len(reads) == 1
    assert reads[0]["file"].value() == "/out/v002/sh010.%04d.exr" and reads[0]["reload"].executed == 2


def test_a_videos_result_stands_where_the_video_stands(host: Host) -> None:
    node = host.read("/media/a.mov", first=11, last=48, origfirst=1, origlast=48)
    paint(host, node, *SAVED, {"event": "done", "output": "/media/paintover/a_paintover_v001.mov"}, frame=20)
    [arguments] = host.recorded_arguments()
    assert arguments[2:4] == ["--frame", "19"] and "--range=10-47" in arguments
    read = host.module("session").result_read(node)
    assert (read["first"].value(), read["last"].value()) == (1, 38)
    assert (read["frame_mode"].value(), read["frame"].value()) == ("start at", "11")


def test_a_frame_that_the_read_has_not_is_refused(host: Host) -> None:
    with pytest.raises(HostError, match="Frame 7 is not in Read1, which has 1001 to 1048"):
        host.module("session").NodePainting(host.read(), 7, print)


def test_script_remembers_paintings_for_propagation(host: Host) -> None:
    node = host.read()
    paint(host, node, *SAVED)
    paint(host, node, {"event": "saved", "path": "/p/sh010_1040.psd"}, frame=1040)
    host.says({"event": "done", "output": "/out/v002/sh010.%04d.exr"})
    session = host.module("session").NodePropagation(node, lambda what, event: None, method="videoshop")
    host.until_ended(session)
    assert host.recorded_arguments()[2][:8] == ["propagate", "/plates/sh010.%04d.exr", "-k", "1012=/p/sh010_1012.psd",
                                   "-k", "1040=/p/sh010_1040.psd", "--method", "videoshop"]  # fmt: skip


def test_nothing_painted_nothing_propagated(host: Host) -> None:
    with pytest.raises(HostError, match="Nothing is painted on Read1 yet"):
        host.module("session").NodePropagation(host.read(), print)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}'])
def test_a_damaged_memory_is_no_memory(host: Host, text: str) -> None:
    node = host.read()
    node.addKnob(host.nuke.String_Knob("paintover", text))
    assert host.module("session").remembered(node) == {}


def test_deleted_node_is_ignored(host: Host) -> None:
    node = host.read()
    host.says({"sleep": 0.3}, *SAVED, {"event": "done", "output": "/out/v001/sh010.%04d.exr"})
    session = host.module("session").NodePainting(node, 1012, lambda what, event: None)
    host.nuke.delete(node)
    host.until_ended(session)
    assert host.nuke.allNodes("Read") == []


def test_a_command_that_fails_without_a_word_is_told(host: Host) -> None:
    events: list[Any] = []
    host.says({"stderr": "Traceback: something"}, {"exit": 1})
    session = host.module("session").NodePainting(host.read(), 1012, lambda what, event: events.append(event))
    host.until_ended(session)
    assert events[0]["message"] == "The paintover command failed: Traceback: something."
    assert events[1] == {"event": "ended", "exit_code": 1}


def test_a_missing_command_is_one_sentence(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_COMMAND", "/nowhere/paintover")
    with pytest.raises(HostError, match="The command /nowhere/paintover cannot be started"):
        host.module("session").NodePainting(host.read(), 1012, print)
    monkeypatch.delenv("PAINTOVER_COMMAND")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HostError, match="run `paintover install` again"):
        host.module("session").NodePainting(host.read(), 1012, print)


def test_host_library_paths_do_not_reach_the_command(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from paintover_bridge.hosts.command import clean_environment

    monkeypatch.setenv("PYTHONHOME", "/opt/Nuke")
    monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join(["/opt/Nuke/lib", "/usr/local/cuda/lib64"]))
    kept = clean_environment(Path("/opt/Nuke"))
    assert "PYTHONHOME" not in kept and kept["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"


# The OpenFX effect.


def test_effect_on_a_read_works_on_its_files(host: Host) -> None:
    """The same shot as the menu's, so that each shows what the other propagates."""
    effects = host.module("effect")
    read = host.read(colorspace="ACES - ACEScg")
    node, sentence = effects.place(read)
    assert (node.input(0), sentence) == (read, "")
    knobs = ("sourcePath", "sourceRange", "sourceOffset", "colorspace", "sendFrames")
    values = ["/plates/sh010.%04d.exr", "1001-1048", 0, "ACES - ACEScg", False]
    assert [node[knob].value() for knob in knobs] == values
    video = host.read("/media/a.mov", first=11, last=48, origfirst=1, origlast=48)
    node, _ = effects.place(video)
    assert [node[knob].value() for knob in knobs] == ["/media/a.mov", "10-47", -1, "", False]


def test_effect_after_a_change_of_colour_is_warned_about(host: Host) -> None:
    effects = host.module("effect")
    node, _ = effects.place(host.read())
    grade = host.nuke.Node("Grade")
    node.setInput(0, grade)
    again, sentence = effects.place(node)
    assert again is node and "is after Grade1" in sentence and "before any change of colour" in sentence
    assert node["sendFrames"].value() is True and not node["sourcePath"].value() and not node["sourceRange"].value()
    node, sentence = effects.place(host.read(colorspace="AlexaV3LogC"))
    assert "converts from AlexaV3LogC" in sentence and node["sendFrames"].value() is True
    assert effects.place(host.read(colorspace="AlexaV3LogC", raw=True))[1] == ""
    assert effects.place(host.read(frame_mode="offset", frame="10"))[1] != ""


def test_effects_keyframes_are_what_the_menu_propagates(host: Host) -> None:
    node, _ = host.module("effect").place(host.read())
    node["keyframes"].setValue('[[1001, "/p/a.tif", ""], [1012, "/p/b.tif", "/p/matte.png"]]')
    host.says({"event": "done", "output": "/out/v001/sh010.%04d.exr"})
    session = host.module("session").NodePropagation(node, lambda what, event: None)
    host.until_ended(session)
    assert host.recorded_arguments()[0][:8] == [
        "propagate", "/plates/sh010.%04d.exr", "-k", "1001=/p/a.tif", "-k", "1012=/p/b.tif",
        "--matte", "1012=/p/matte.png",
    ]  # fmt: skip


def test_what_the_menu_paints_on_an_effect_is_its_keyframe(host: Host) -> None:
    node, _ = host.module("effect").place(host.read())
    node["keyframes"].setValue(
        '[[1003, "/p/sh010_1012.psd", ""], [1012, "/p/old.tif", ""], [1040, "/p/c.tif", "/m.png"]]'
    )
    paint(host, node, *SAVED)
    assert json.loads(node["keyframes"].value()) == [[1012, "/p/sh010_1012.psd", ""], [1040, "/p/c.tif", "/m.png"]]


def test_effect_without_a_place_is_a_sentence(host: Host) -> None:
    effects = host.module("effect")
    node, _ = effects.place(host.read())
    node.setInput(0, None)
    with pytest.raises(HostError, match="has no input; connect it to the Read"):
        host.module("session").NodePropagation(node, print)
    host.nuke.current["effect"] = False
    with pytest.raises(HostError, match="run `paintover install ofx`"):
        effects.place(host.read())


@pytest.mark.parametrize("text", ["", "{", "[1]", '[["a", 1, 2]]'])
def test_damaged_keyframes_are_none(host: Host, text: str) -> None:
    node, _ = host.module("effect").place(host.read())
    node["keyframes"].setValue(text)
    assert host.module("effect").keyframes(node) == {}


# Headless.


def test_a_farm_propagates_without_an_interface(host: Host) -> None:
    script = host.folder / "comp.nk"
    script.touch()
    host.read()
    host.says({"event": "done", "output": "/out/v001/sh010.%04d.exr"})
    batch = host.module("batch")
    assert batch.main([str(script), "Read1", "1012=/p/a.psd", "--save", str(host.folder / "painted.nk")]) == 0
    assert host.nuke.current["saved"].endswith("painted.nk")
    assert host.nuke.toNode("Read2")["file"].value() == "/out/v001/sh010.%04d.exr"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["{nk}", "Read7", "1=/a.psd"], "has no node Read7"), (["/no.nk", "Read1", "1=/a.psd"], "/no.nk does not exist"),
     (["{nk}", "Read1", "1012=/p/a.psd"], "The keyframe is gone.")],
)  # fmt: skip
def test_a_farm_gets_a_status_and_a_sentence(
    host: Host, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    script = host.folder / "comp.nk"
    script.touch()
    host.read()
    host.says({"event": "error", "message": "The keyframe is gone."}, {"exit": 2})
    assert host.module("batch").main([one.format(nk=script) for one in arguments]) == 1
    assert message in capsys.readouterr().err


def test_farm_batch_runs_the_real_command_and_engine(
    host: Host, small_shot: SmallShot, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAINTOVER_COMMAND", f"{sys.executable} -m paintover_bridge")
    script = host.folder / "comp.nk"
    script.touch()
    host.read(str(small_shot.source / "%05d.png"), first=0, last=11, origfirst=0, origlast=11)
    assert host.module("batch").main([str(script), "Read1", f"4={small_shot.keyframe}"]) == 0
    read = host.nuke.toNode("Read2")
    assert read["file"].value().endswith("/paintover/frames_paintover/v001/%05d.png")
    assert (read["first"].value(), read["last"].value()) == (0, 11)
    assert all(Path(read["file"].value() % number).is_file() for number in range(12))
    # A keyframe that is none: one sentence of the engine's.
    (host.folder / "torn.psd").write_bytes(b"8BPS")
    assert host.module("batch").main([str(script), "Read1", f"4={host.folder / 'torn.psd'}"]) == 1


# As installed.


def test_installed_files_run_in_bare_python_3_9(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".nuke"
    for path, text in host.module("").files(folder, ["/opt/paint over/bin/paintover"]).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    python = next(filter(None, map(shutil.which, ("python3.9", "python3.10"))), sys.executable)
    if subprocess.run([python, "-c", ""], capture_output=True).returncode:
        python = sys.executable
    code = (
        f"import sys; sys.path.insert(0, {str(STANDIN)!r}); init = {str(folder / 'paintover' / 'init.py')!r}\n"
        "exec(compile(open(init).read(), init, 'exec'), {'__file__': init})\n"
        "from paintover_bridge.hosts.nuke import batch, find_command\n"
        "import paintover_bridge; print(paintover_bridge.__file__); print(find_command())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("PAINTOVER_COMMAND", "PYTHONPATH")}
    done = subprocess.run([python, "-S", "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    ours = str(folder / "paintover" / "paintover_bridge" / "__init__.py")
    assert done.stdout.splitlines() == [ours, "['/opt/paint over/bin/paintover']"]
