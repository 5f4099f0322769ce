"""Writes the pickled weights (`*.bin`) of a model's part as safetensors beside them, for folders that have no others.

python -m paintover_engine.diffusion.convert FOLDER [FOLDER ...]     FOLDER: as .../unet

Pickles are opened by PyTorch's restricted unpickler (`weights_only`), which builds tensors and refuses everything else.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from paintover_engine.durable import replace_file, write_file
from paintover_engine.errors import Code, PaintoverError

_INDEX = ".bin.index"


def convert(folder: Path) -> list[Path]:
    """Converts all files of a network's folder, one at a time; returns the new ones. Raises PaintoverError for a folder
    without pickled weights, or with a file that holds anything but tensors."""
    pickles = sorted(folder.glob("*.bin"))
    if not pickles:
        raise PaintoverError(Code.NOT_FOUND, f"There are no pickled weights (*.bin) in {folder}; name a model's part.")
    written = [_convert_file(path) for path in pickles]
    for index in folder.glob(f"*{_INDEX}*.json"):  # of weights in several files: says which is in which
        described = json.loads(index.read_text("utf-8"))
        described["weight_map"] = {tensor: _renamed(file) for tensor, file in described["weight_map"].items()}
        write_file(folder / _renamed(index.name), json.dumps(described, indent=2))
    return written


def _convert_file(path: Path) -> Path:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise _refused(path) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise _refused(path)
    final = path.with_name(_renamed(path.name))
    partial = final.with_suffix(".partial")
    # Copies: safetensors takes no tensors that share memory, as tied weights do.
    save_file({name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}, partial,
              metadata={"format": "pt"})  # fmt: skip
    replace_file(partial, final)
    return final


def _renamed(name: str) -> str:
    """The name that diffusers and transformers give to the same weights in safetensors."""
    return name.replace("pytorch_model", "model", 1 if name.startswith("pytorch_model") else 0).replace(
        ".bin", ".safetensors"
    )


def _refused(path: Path) -> PaintoverError:
    return PaintoverError(
        Code.INVALID_ARGUMENT, f"{path} is damaged or holds more than tensors, so it is not opened; get another copy."
    )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Writes pickled weights as safetensors.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    try:
        for folder in parser.parse_args().folders:
            for path in convert(folder):
                sys.stdout.write(f"{path}\n")
    except PaintoverError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
