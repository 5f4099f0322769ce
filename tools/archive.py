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

import sbom
from crates import linked

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "plugin_ofx" / "build" / "Paintover.ofx.bundle"
LIBRARIES = {
    "linux": {"Linux-x86-64": "x86_64-unknown-linux-gnu", "Linux-aarch64": "aarch64-unknown-linux-gnu"},
    "macos": {"MacOS": "aarch64-apple-darwin"},
    "windows": {"Win64": "x86_64-pc-windows-gnu"},
}
"""Folders of a bundle by platform, and the Rust target of what lies there."""

FORMATS = {"linux": "gztar", "macos": "gztar", "windows": "zip"}


def version() -> str:
    """Of the bridge, which is that of all parts."""
    text = (ROOT / "bridge" / "paintover_bridge" / "__init__.py").read_text("utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found
    return found[1]


def build_wheel(folder: Path) -> None:
    """The wheel of the distribution `paintover`, which holds all parts, with the build tools of this Python."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*map(str, pip), str(ROOT)], check=True)


def copy_bundle(folder: Path, platform: str) -> bool:
    """The effect with the libraries of one platform; whether there are any."""
    contents = folder / BUNDLE.name / "Contents"
    for name in LIBRARIES[platform]:
        if (BUNDLE / "Contents" / name).is_dir():
            shutil.copytree(BUNDLE / "Contents" / name, contents / name)
    if not contents.is_dir():
        return False
    shutil.copytree(BUNDLE / "Contents" / "Resources", contents / "Resources")
    shutil.copy2(BUNDLE / "Contents" / "Info.plist", contents)
    return True


def write_components(folder: Path, platform: str) -> None:
    """The lists of what is in the archive and what its installer fetches: for people, and in CycloneDX."""
    targets = [LIBRARIES[platform][name] for name in LIBRARIES[platform] if (BUNDLE / "Contents" / name).is_dir()]
    crates = list(dict.fromkeys(crate for target in targets for crate in linked(target)))
    packages = sbom.locked_packages()
    (folder / "THIRD-PARTY-NOTICES.txt").write_text(sbom.notices(crates, packages), "utf-8")
    (folder / "paintover.cdx.json").write_text(
        sbom.document(version(), sorted((folder / "wheels").glob("*.whl")), crates, packages), "utf-8"
    )


def build(platform: str, output: Path) -> Path:
    """Builds an archive; returns its path."""
    name = f"paintover-{version()}-{platform}"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        build_wheel(folder / "wheels")
        shutil.copy2(ROOT / "LICENSE", folder)
        starter = "install.bat" if platform == "windows" else "install.sh"
        for part in ("install.py", "README.txt", "requirements.txt", "requirements-models.txt", starter):
            shutil.copy2(ROOT / "installer" / part, folder)
        write_components(folder, platform)
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
