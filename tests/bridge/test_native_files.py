"""Files of painting programs' own kinds, as pictures that the engine reads."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from paintover_bridge.errors import ClientError
from paintover_bridge.native_files import readable


@pytest.mark.parametrize("suffix", [".kra", ".ora"])
def test_flattened_picture_of_zipped_kinds_is_taken(tmp_path: Path, suffix: str) -> None:
    painted = cv2.imencode(".png", np.full((4, 6, 3), 90, np.uint8))[1].tobytes()
    path = tmp_path / f"shot{suffix}"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("mimetype", "application/x-krita")
        packed.writestr("mergedimage.png", painted)
    assert readable(path) == painted


def test_pictures_are_taken_as_they_are(tmp_path: Path) -> None:
    assert readable(tmp_path / "shot.PSD") == tmp_path / "shot.PSD"


@pytest.mark.parametrize("contents", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_a_kra_without_a_picture_is_a_sentence(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "shot.kra"
    path.write_bytes(contents)
    with pytest.raises(ClientError, match=r"'shot.kra' holds no flattened picture; save a PSD or PNG beside it\."):
        readable(path)


def test_an_xcf_without_gimp_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClientError, match="'shot.xcf' is read by GIMP, which is not found here"):
        readable(tmp_path / "shot.xcf")
