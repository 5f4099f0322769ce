"""`python -m paintover_engine.service`: the daemon in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from pathlib import Path

from paintover_local.private_files import NotPrivate, claim_folder

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.jobs.cache import DEFAULT_BUDGET, FULL
from paintover_engine.jobs.confinement import ROOTS
from paintover_engine.jobs.folders import DataFolder, default_data_folder
from paintover_engine.service.limits import raise_file_limit
from paintover_engine.service.logs import start_logging
from paintover_engine.service.server import FolderTaken, serve

NODES = "0.0.0.0:0"  # where a Ray cluster's nodes join
TRY_AGAIN = 75  # EX_TEMPFAIL: a client that starts a daemon waits and tries again


def main() -> int:
    """Serves until stopped, and returns 0. Where it cannot it prints one sentence and returns 75 (another engine has
    the folder) or 2."""
    arguments = _parser().parse_args()
    folder = DataFolder(arguments.data_dir.absolute(), arguments.store and arguments.store.absolute())
    os.environ["PAINTOVER_DATA"] = str(folder.root)  # its `models` are looked for there
    os.environ[ROOTS] = os.pathsep.join(str(root.resolve()) for root in arguments.root)
    raise_file_limit()
    try:
        _claim(folder)
        start_logging(folder.logs)
        asyncio.run(
            serve(
                folder,
                arguments.listen,
                arguments.ephemeral,
                arguments.root,
                arguments.cache_size,
                arguments.gpu_memory,
                arguments.cpu_workers,
                arguments.metrics,
                arguments.workers_listen or (NODES if arguments.ray else ""),
                arguments.ray,
            )
        )
    except FolderTaken as error:
        sys.stderr.write(f"paintover-engine: {error.message}\n")
        return TRY_AGAIN
    except PaintoverError as error:
        sys.stderr.write(f"paintover-engine: {error.message}\n")
        return 2
    except OSError as error:
        if error.errno not in FULL:
            raise
        sys.stderr.write(f"paintover-engine: {folder.unwritable(error).message}\n")
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paintover-engine", description="Paintover's engine daemon.")
    parser.add_argument(
        "--data-dir", type=Path, default=default_data_folder(), help="where queue, cache and results lie"
    )
    parser.add_argument(
        "--listen",
        default="",
        help="127.0.0.1:PORT (0: any) or unix:PATH (default: a socket in the data folder; a free port on Windows)",
    )
    parser.add_argument("--ephemeral", action="store_true", help="end when no job and no client is left")
    parser.add_argument(
        "--root", type=Path, action="append", default=[], help="touch only files below this folder (repeatable)"
    )
    parser.add_argument(
        "--cache-size",
        type=_bytes,
        default=os.environ.get("PAINTOVER_CACHE_SIZE", DEFAULT_BUDGET),
        metavar="SIZE",
        help="room on disk for what can be made again: 500M, 50G (default: $PAINTOVER_CACHE_SIZE, else 50G)",
    )
    parser.add_argument(
        "--gpu-memory",
        type=_bytes,
        default=os.environ.get("PAINTOVER_GPU_MEMORY", 0),
        metavar="SIZE",
        help="GPU memory to use at most, so that the host program keeps the rest: 8G "
        "(default: $PAINTOVER_GPU_MEMORY, else all)",
    )
    parser.add_argument(
        "--cpu-workers",
        type=_count,
        default=os.environ.get("PAINTOVER_CPU_WORKERS", 1),
        metavar="N",
        help="processes that compute on the CPU, each a stage at a time (default: $PAINTOVER_CPU_WORKERS, else 1)",
    )
    parser.add_argument(
        "--metrics", action="store_true", help="answer /metrics for Prometheus beside the monitor page (with the token)"
    )
    parser.add_argument(
        "--workers-listen",
        default="",
        metavar="HOST:PORT",
        help="let devices of other machines join there (0: any port); encrypted unless HOST is this machine's loopback",
    )
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="keep stages' outputs here, where other machines see them, too"
    )
    parser.add_argument("--ray", default="", metavar="ADDRESS", help="compute on the nodes of a Ray cluster, too")
    return parser


def _claim(folder: DataFolder) -> None:
    """Makes the data folder this user's alone, before anything is read from it or written into it."""
    try:
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim_folder(folder.root)
    except NotPrivate as error:
        raise PaintoverError(Code.PERMISSION_DENIED, str(error)) from error
    except OSError as error:
        raise folder.unwritable(error) from error


def _count(text: str) -> int:
    """A number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of processes; write 1 or more")
    return int(text)


def _bytes(text: str) -> int:
    """ "50G" as bytes (decimal units, as disks are sold)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text, re.IGNORECASE)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; write it as 500M or 50G")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))


if __name__ == "__main__":
    sys.exit(main())
