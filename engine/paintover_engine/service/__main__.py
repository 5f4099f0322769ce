"""`python -m paintover_engine.service`: the daemon in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from paintover_engine.errors import PaintoverError
from paintover_engine.jobs.folders import DataFolder, default_data_folder
from paintover_engine.service.server import FolderTaken, serve

TRY_AGAIN = 75  # EX_TEMPFAIL, which clients that start a daemon wait and try again at


def main() -> int:
    """Serves until stopped; when it cannot, one sentence and 75 (another engine has the folder) or 2."""
    parser = argparse.ArgumentParser(prog="paintover-engine", description="Paintover's engine daemon.")
    parser.add_argument(
        "--data-dir", type=Path, default=default_data_folder(), help="where queue, cache and results lie"
    )
    parser.add_argument("--listen", default="127.0.0.1:0", help="127.0.0.1:PORT (0: any) or unix:PATH")
    parser.add_argument("--ephemeral", action="store_true", help="end when no job and no client is left")
    parser.add_argument(
        "--root", type=Path, action="append", default=[], help="touch only files below this folder (repeatable)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(
            serve(DataFolder(arguments.data_dir.absolute()), arguments.listen, arguments.ephemeral, arguments.root)
        )
    except FolderTaken as error:
        sys.stderr.write(f"paintover-engine: {error.message}\n")
        return TRY_AGAIN
    except PaintoverError as error:
        sys.stderr.write(f"paintover-engine: {error.message}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
