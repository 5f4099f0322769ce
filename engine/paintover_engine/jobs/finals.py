"""The method for a final where the artist chose none: the best that the machine can run, which she is shown."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paintover_engine.errors import PaintoverError
from paintover_engine.jobs.devices import Device
from paintover_engine.jobs.media_workers import MediaWorkers
from paintover_engine.jobs.protocol import ModelMemoryRequest
from paintover_engine.methods.registry import FINALS, METHODS, ModelSpec, find_method, found_models, model_name

log = logging.getLogger(__name__)

GB = 10**9
USABLE = 0.95
"""Of a GPU's memory: the rest is the screen's and other programs'."""


@dataclass(frozen=True)
class Final:
    """A method and the model that it computes with, "" without one. why: these, in a sentence. sure: whether the GPUs
    were tried and the models counted."""

    method: str
    model: str
    why: str
    sure: bool = True


class Finals:
    """Chooses by what lies on the disk and what the GPUs hold. On the CPU a model of full size takes days, so without a
    GPU it is the draft.

    devices: returns those of this machine. tried: set once every GPU was tried."""

    def __init__(self, devices: Callable[[], Sequence[Device]], media: MediaWorkers) -> None:
        self._devices, self._media = devices, media
        self.tried = asyncio.Event()
        self._memory: dict[tuple[str, int], int] = {}
        self._counted = False

    def memory(self, model: ModelSpec) -> int:
        """Bytes of GPU memory that a model takes at least; 0 where that was not counted."""
        return self._memory.get((model.name, model.size), 0)

    async def count(self) -> None:
        """Counts what the models take that are on this machine, where a GPU could hold them."""
        await self.tried.wait()
        for model in found_models() if self._gpus() else ():
            if model.methods and (model.name, model.size) not in self._memory:
                try:
                    counted = (await self._media.call(ModelMemoryRequest(model=model.name))).memory
                except PaintoverError as error:
                    log.warning("%s: %s", model.name, error.message)
                    counted = 0
                self._memory[model.name, model.size] = counted
        self._counted = True

    async def choose(self) -> Final:
        """The best that this machine can run, once its GPUs are tried and its models counted."""
        await self.count()
        return self.known()

    def known(self) -> Final:
        """The best by what is counted already."""
        return dataclasses.replace(self._best(), sure=self._counted)

    def _best(self) -> Final:
        gpus = self._gpus()
        if not gpus:
            why = "no GPU here can be computed on, and on the CPU a video model takes days"
            return _draft(f"{why}; name another method to have it all the same")
        largest = max(gpus, key=lambda gpu: gpu.memory)
        models = {model.name: model for model in found_models()}
        too_large = ""
        for name in FINALS:
            model = models.get(model_name(METHODS[name], ""))
            if model is None or model.shipped or not self.memory(model):
                continue
            if self.memory(model) <= USABLE * largest.memory:
                return Final(name, model.name, f"Carried by the method {name} with {model.name}, on {largest.name}.")
            needed = f"{model.name} takes {self.memory(model) / GB:.1f} GB of a GPU's memory"
            too_large = too_large or f"{needed}, more than {largest.name} has"
        default = find_method(FINALS[0]).default_model
        why = too_large or f"no video model is on this machine (hf download {default} brings one)"
        return _draft(why)

    def _gpus(self) -> list[Device]:
        """Those that something was computed on."""
        return [device for device in self._devices() if device.kind != "cpu" and device.tried]


def _draft(why: str) -> Final:
    return Final("draft", "", f"Carried by the method draft: {why}.")
