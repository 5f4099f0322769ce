"""Tries a GPU in a process of its own, with a time limit: whether the installed PyTorch computes on it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys

from paintover_engine.jobs.devices import Device, show

SECONDS = 90.0
"""A cold start of PyTorch and CUDA takes up to half a minute."""

_UNKNOWN = "see what `python -c 'import torch; torch.zeros(1).cuda()'` says with the engine's Python"


async def tried(device: Device) -> Device:
    """The device with `tried`, or `problem` and `remedy`, filled in."""
    environment = dict(os.environ)
    show(device.kind, device.visible, environment)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "paintover_engine.methods.gpu_trial", device.kind,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    try:
        output, errors = await asyncio.wait_for(process.communicate(), SECONDS)
    except (asyncio.TimeoutError, asyncio.CancelledError) as error:
        process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        problem = f"one small operation did not end within {SECONDS:.0f} seconds"
        return dataclasses.replace(device, problem=problem, remedy="restart the computer, or renew the GPU's driver")
    try:
        found = json.loads(output)
        return dataclasses.replace(
            device, tried=str(found["tried"]), problem=str(found["problem"]), remedy=str(found["remedy"])
        )
    except (ValueError, KeyError):
        last = (errors.decode(errors="replace").strip().splitlines() or [f"it ended with {process.returncode}"])[-1]
        return dataclasses.replace(device, problem=f"trying it failed: {last}", remedy=_UNKNOWN)
