"""A method of stages that sleep: what the queue does can be seen, and costs no processor."""

import time

from paintover_engine.errors import Code, PaintoverError
from paintover_engine.methods.stage import ResultFrame, Stage, stage
from pydantic import BaseModel, Field


class SlowParameters(BaseModel):
    """seconds: a stage takes; stages: how many; passes_after: how often the first stage fails before it goes well."""

    seconds: float = Field(default=0.3, ge=0, le=60)
    stages: int = Field(default=4, ge=1, le=1000)
    seed: int = Field(default=0, ge=0, le=10**9)
    fails: int = Field(default=0, ge=0, le=100)
    code: str = "UNAVAILABLE"
    marks: str = ""


def plan(info, keyframes, parameters, model=""):
    given = parameters.model_dump()
    ahead = Stage(prepare, {"seed": parameters.seed, "seconds": parameters.seconds}, (), (info.fingerprint,),
                  (info.first, info.last))  # fmt: skip
    if not keyframes:
        return [ahead]
    span = max(1, info.count // parameters.stages)
    stages = []
    for index in range(parameters.stages):
        first = info.first + index * span
        last = info.last if index == parameters.stages - 1 else first + span - 1
        stages.append(Stage(paint, {**given, "index": index}, (ahead,), (info.fingerprint, keyframes[0].digest),
                            (first, last), needs_keyframe=True))  # fmt: skip
    return [ahead, *stages]


@stage()
def prepare(context, stage):
    import numpy as np

    _sleep(context, stage.parameters["seconds"])
    return {"ready": np.ones(1, np.float32)}


@stage(publishes=True)
def paint(context, stage):
    import numpy as np

    context.load(stage.inputs[0])
    given = stage.parameters
    if given["fails"] and given["index"] == 0:
        with open(given["marks"], "a+") as marks:
            marks.write("x")
            marks.seek(0)
            if len(marks.read()) <= given["fails"]:
                raise PaintoverError(Code[given["code"]], "The server of the plates does not answer.")
    _sleep(context, given["seconds"])
    first, last = stage.frames
    for number in range(first, last + 1):
        yield ResultFrame(number, (0, 0, 2, 2), np.ones((2, 2, 4), np.float16), 0.4 if number % 7 == 0 else 0.9)


def _sleep(context, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        context.check()
        time.sleep(0.02)
