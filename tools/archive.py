"""Builds the archive of a platform: wheels, the OpenFX effect where it is built, and what installs them.

python tools/archive.py [--platform linux|macos|windows] [-o FOLDER]
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "plugin_ofx" / "build" / "Paintover.ofx.bundle"
LIBRARIES = {"linux": ("Linux-x86-64", "Linux-aarch64"), "macos": ("MacOS",), "windows": ("Win64",)}
PARTS = ("protos", "local", "bridge", "engine")
FORMATS = {"linux": "gztar", "macos": "gztar", "windows": "zip"}


def version() -> str:
    """Of the bridge, which is that of all parts."""
    text = (ROOT / "bridge" / "paintover_bridge" / "__init__.py").read_text("utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found
    return found[1]


def build_wheels(folder: Path) -> None:
    """The wheels of all parts, with the build tools of this Python."""
    folder.mkdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*map(str, pip), *(str(ROOT / part) for part in PARTS)], check=True)


def copy_demo(folder: Path) -> None:
    """The demo, with the package that it imports beside it: no part of what is installed."""
    folder.mkdir()
    shutil.copy2(ROOT / "examples" / "demo.py", folder)
    package = ROOT / "evaluation" / "paintover_evaluation"
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))


def copy_bundle(folder: Path, platform: str) -> bool:
    """The effect with the libraries of one platform; whether there are any."""
    contents = folder / BUNDLE.name / "Contents"
    for name in LIBRARIES[platform]:
        if (BUNDLE / "Contents" / name).is_dir():
            shutil.copytree(BUNDLE / "Contents" / name, contents / name)
    if not contents.is_dir():
        return False
    (contents / "Resources").mkdir(exist_ok=True)
    shutil.copy2(BUNDLE / "Contents" / "Info.plist", contents)
    return True


def build(platform: str, output: Path) -> Path:
    """Builds an archive; returns its path."""
    name = f"paintover-{version()}-{platform}"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        build_wheels(folder / "wheels")
        copy_demo(folder / "demo")
        for file in (ROOT / "constraints.txt", ROOT / "LICENSE"):
            shutil.copy2(file, folder)
        starter = "install.bat" if platform == "windows" else "install.sh"
        for part in ("install.py", "README.txt", starter):
            shutil.copy2(ROOT / "installer" / part, folder)
        if not copy_bundle(folder, platform):
            print(
                f"SKIPPED: THE OPENFX EFFECT IS NOT BUILT FOR {platform.upper()} AND NOT IN THE ARCHIVE",
                file=sys.stderr,
            )
        return Path(shutil.make_archive(str(output / name), FORMATS[platform], temporary, name))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Builds the archive that Paintover is installed from.")
    this = {"darwin": "macos", "win32": "windows"}.get(sys.platform, "linux")
    parser.add_argument("--platform", choices=sorted(LIBRARIES), default=this)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist", metavar="FOLDER")
    arguments = parser.parse_args()
    print(build(arguments.platform, arguments.output))


if __name__ == "__main__":
    main()
