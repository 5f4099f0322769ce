"""Photoshop files with more layers than anybody painted: small on disk, long to read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from paintover_engine.errors import PaintoverError
from paintover_engine.media import layers

RESOURCE = b"8BIM" + struct.pack(">HHI", 4000, 0, 2) + b"ab"


def record(version: int) -> bytes:
    """An empty layer of four channels."""
    sizes = b"".join(struct.pack(">hI" if version == 1 else ">hQ", channel, 2) for channel in (-1, 0, 1, 2))
    return struct.pack(">4iH", 0, 0, 0, 0, 4) + sizes + b"8BIMnorm\xff\0\0\0" + struct.pack(">III", 12, 0, 0) + b"\3abc"


def document(count: int, version: int, block: bytes) -> bytes:
    """A Photoshop file (1) or a large one (2) of empty layers. block: the key of the tagged block that holds them;
    empty where they lie in the layers' own section."""
    size = ">I" if version == 1 else ">Q"
    found = struct.pack(">h", count) + record(version) * abs(count) + b"\0\0" * 4 * abs(count)
    found += bytes(-len(found) % 4)
    section = struct.pack(size, len(found)) + found + struct.pack(">I", 0)
    if block:
        other = b"8BIMzzzz" + struct.pack(">I", 5) + bytes(8)
        section = struct.pack(size, 0) + struct.pack(">I", 0) + other + b"8BIM" + block + struct.pack(size, len(found))
        section += found
    return (
        b"8BPS" + struct.pack(">H6xHIIHH", version, 3, 4, 4, 16 if block else 8, 3)
        + struct.pack(">II", 0, len(RESOURCE)) + RESOURCE + struct.pack(size, len(section)) + section
        + struct.pack(">H", 0) + bytes(4 * 4 * 3 * 2)
    )  # fmt: skip


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("block", [b"", b"Lr16"])
@pytest.mark.parametrize("count", [30_000, -30_000])
def test_thousands_of_layers_are_counted_not_read(
    version: int, block: bytes, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.psd"
    file.write_bytes(document(count, version, block))
    monkeypatch.delattr(layers.PSD, "read")
    with pytest.raises(PaintoverError, match="has 30000 layers; merge them to 1000 at most"):
        layers.open_document(file)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("block", [b"", b"Lr16"])
def test_a_few_layers_are_read(version: int, block: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.psd"
    file.write_bytes(document(3, version, block))
    assert len(list(layers.open_document(file))) == 3
