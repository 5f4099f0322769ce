"""GPUs as their drivers list them, by stand-ins of the drivers' programs on PATH."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from paintover_engine.jobs import device_probe, devices
from paintover_engine.jobs.devices import Device

pytestmark = pytest.mark.skipif(os.name != "posix", reason="shell scripts stand in for the drivers' programs")

FIRST, SECOND = "GPU-8a1f6f0e-1111-2222-3333-444455556666", "GPU-8b000000-1111-2222-3333-444455556666"
PART = "MIG-11112222-3333-4444-5555-666677778888"
NVIDIA_SMI = f"""#!/bin/sh
case "$1" in
  -L) cat <<EOF
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {FIRST})
  MIG 3g.20gb     Device  0: (UUID: MIG-00000000-3333-4444-5555-666677778888)
  MIG 1g.5gb      Device  1: (UUID: {PART})
GPU 1: NVIDIA RTX 3090 (UUID: {SECOND})
EOF
  ;;
  *uuid*) echo "0, {FIRST}, NVIDIA A100-SXM4-40GB, 40960, 550.54.14"
          echo "1, {SECOND}, NVIDIA RTX 3090, 24576, 550.54.14" ;;
  *) echo "0, 1024, 40960, 7"; echo "1, 2048, 24576, [N/A]" ;;
esac
"""
ROCM = {
    "card0": {"Card Series": "AMD Radeon PRO W7900", "VRAM Total Memory (B)": "48301604864"},
    "card1": {"Card series": "AMD Radeon RX 7900 XTX", "VRAM Total Memory (B)": "25753026560"},
    "system": {"Driver version": "6.7.0"},
}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH but the shell's own programs."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), "/bin", "/usr/bin"]))
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def write(programs: Path, name: str, text: str) -> None:
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)


def found() -> list[Device]:
    return asyncio.run(devices.find_gpus())


def test_every_card_has_driver_and_memory(programs: Path) -> None:
    write(programs, "nvidia-smi", NVIDIA_SMI)
    first, second = found()
    assert first == Device("NVIDIA A100-SXM4-40GB", "cuda", 0, 40 * 2**30, visible="0", driver="550.54.14")
    assert second.words == "NVIDIA RTX 3090, driver 550.54.14"
    assert [device.id for device in (first, second)] == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("visible", "shown"),
    [
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        ("GPU-8a1f", ["0"]),
        (f" {SECOND} ,{FIRST}", ["1", "0"]),
        ("GPU-8", []),  # the beginning of both
        ("0,7,1", ["0"]),  # CUDA stops at what it does not know
        ("-1", []),
        ("", []),
        (PART, [PART]),
        ("MIG-1111", [PART]),
        (f"MIG-{FIRST}/1/0", [f"MIG-{FIRST}/1/0"]),
    ],
)
def test_visible_devices_of_every_form_are_found(
    programs: Path, monkeypatch: pytest.MonkeyPatch, visible: str, shown: list[str]
) -> None:
    write(programs, "nvidia-smi", NVIDIA_SMI)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    listed = found()
    assert [entry for device in listed for entry in [device.visible]] == [
        {SECOND: "1", FIRST: "0"}.get(entry, entry) for entry in shown
    ]


def test_part_of_a_card_has_its_own_name_and_memory(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(programs, "nvidia-smi", NVIDIA_SMI)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", PART)
    (part,) = found()
    assert (part.name, part.memory, part.id) == ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5 * 2**30, "cuda:0.1")


def test_amd_cards_are_found(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(programs, "rocm-smi", f"#!/bin/sh\ncat <<'EOF'\n{json.dumps(ROCM)}\nEOF\n")
    assert [(d.name, d.kind, d.memory, d.driver) for d in found()] == [
        ("AMD Radeon PRO W7900", "rocm", 48301604864, "6.7.0"),
        ("AMD Radeon RX 7900 XTX", "rocm", 25753026560, "6.7.0"),
    ]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert [device.id for device in found()] == ["rocm:1"]


def test_apples_gpu_is_found(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(programs, "sysctl", "#!/bin/sh\necho Apple M2 Max\n")
    monkeypatch.setattr(devices.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(devices.platform, "mac_ver", lambda: ("14.5", ("", "", ""), ""))
    (device,) = found()
    assert (device.words, device.id) == ("Apple M2 Max, driver macOS 14.5", "mps:0")
    assert device.memory > 0


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho 'No devices were found'\n", "no program"])
def test_failing_drivers_list_nothing(programs: Path, text: str) -> None:
    for name in ("nvidia-smi", "rocm-smi"):
        write(programs, name, text)
    assert found() == []


def test_a_process_is_shown_one_device_alone() -> None:
    environment = {"CUDA_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "0"}
    devices.show("cuda", PART, environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == PART
    assert environment["HIP_VISIBLE_DEVICES"] == "-1"
    devices.show("cpu", "", environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["PAINTOVER_ACCELERATOR"] == "cpu"


def test_unusable_card_is_explained() -> None:
    """The commonest fault there is: a driver lists a card, and PyTorch cannot use it."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("PyTorch can use a GPU here")
    device = asyncio.run(device_probe.tried(Device("NVIDIA RTX 3090", "cuda", 0, 2**34, visible="0", driver="470.82")))
    assert device.tried == ""
    assert device.problem.startswith(f"PyTorch {torch.__version__}: ")
    assert "install a PyTorch" in device.remedy


def test_hanging_trial_ends(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(programs, "hangs", "#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(sys, "executable", str(programs / "hangs"))
    monkeypatch.setattr(device_probe, "SECONDS", 0.2)
    device = asyncio.run(device_probe.tried(Device("NVIDIA RTX 3090", "cuda", 0, 2**34)))
    assert "did not end" in device.problem
    assert device.remedy
