"""Processes for host programs while the engine runs: the free Resolve can only write request files, which one reads."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from paintover_local.places import Machine, fusion_folder, resolve_module
from paintover_local.processes import detached, module_command

from paintover_engine.jobs.folders import DataFolder

log = logging.getLogger(__name__)

_RESOLVE = "paintover_bridge.hosts.resolve"  # run in a process of its own, never imported


@contextlib.asynccontextmanager
async def host_watchers(folder: DataFolder) -> AsyncIterator[None]:
    """Runs the watcher of Resolve's request files within the block, if Resolve's scripts are installed.

    It ends when its standard input does, so also when this process is killed."""
    watcher = await _watch_resolve(folder) if _has_resolve(folder) else None
    try:
        yield
    finally:
        if watcher and watcher.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                watcher.terminate()
            await watcher.wait()


def _has_resolve(folder: DataFolder) -> bool:
    """Whether Resolve's scripts are installed, for this user or for all, and with this Python what answers them."""
    if importlib.util.find_spec(_RESOLVE.partition(".")[0]) is None:
        return False
    fusion = Path(str(fusion_folder(Machine.this(all_users=True))))
    return any(resolve_module(fusion, folder.root, everyone).exists() for everyone in (False, True))


async def _watch_resolve(folder: DataFolder) -> asyncio.subprocess.Process | None:
    command = [*module_command(_RESOLVE), "--data-dir", str(folder.root)]
    try:
        return await asyncio.create_subprocess_exec(
            *command, "watch", "--while-input", stdin=subprocess.PIPE, **detached()
        )
    except OSError as error:
        log.warning("Resolve's requests are not watched: %s", error)
        return None
