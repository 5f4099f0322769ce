"""Generates protos/python from protos/paintover; with --check, only says whether what is committed is current."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
COMMITTED = PROTOS / "python"
VENV = ROOT / ".venv-protos"
REQUIREMENTS = ROOT / "tools" / "protos-requirements.txt"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def prepare_venv() -> Path:
    """The Python that has the generators, in a virtual environment of its own: they pin an older protobuf."""
    python = VENV / "bin" / "python"
    stamp = VENV / "requirements.txt"
    if not (python.exists() and stamp.exists() and filecmp.cmp(stamp, REQUIREMENTS, shallow=False)):
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--requirement", str(REQUIREMENTS)], check=True)
        shutil.copyfile(REQUIREMENTS, stamp)
    return python


def generate(into: Path) -> None:
    """Runs protoc: messages, services, and the type stubs of both."""
    python = prepare_venv()
    sources = sorted(path.relative_to(PROTOS) for path in (PROTOS / "paintover").rglob("*.proto"))
    outputs = [f"--{plugin}_out={into}" for plugin in ("python", "grpc_python")]
    outputs += [f"--{plugin}_out=quiet:{into}" for plugin in ("mypy", "mypy_grpc")]
    plugins = [f"--plugin={name}={VENV / 'bin' / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command: list[str | Path] = [
        python,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={PROTOS}",
        *plugins,
        *outputs,
        *sources,
    ]
    subprocess.run(command, check=True, cwd=PROTOS)


def generated_files(folder: Path) -> set[Path]:
    """The generated files under a folder, relative to it."""
    return {path.relative_to(folder) for pattern in GENERATED for path in folder.rglob(pattern)}


def main(arguments: list[str]) -> int:
    """Exit status: 0 when what is committed is, or now is, what the protos say; 1 when it is not."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        wanted, found = generated_files(fresh), generated_files(COMMITTED)
        same, _, _ = filecmp.cmpfiles(fresh, COMMITTED, [str(path) for path in wanted & found], shallow=False)
        stale = sorted((wanted | found) - {Path(name) for name in same})
        if not stale:
            print("protos/python is current.")
            return 0
        if "--check" in arguments:
            names = ", ".join(path.name for path in stale)
            print(f"protos/python is not what protos/paintover says ({names}): run 'make protos' and commit it.")
            return 1
        for path in stale:
            if path in wanted:
                (COMMITTED / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fresh / path, COMMITTED / path)
            else:
                (COMMITTED / path).unlink()
            print(f"protos/python/{path}: {'written' if path in wanted else 'removed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
