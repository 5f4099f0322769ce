"""Gives a daemon and its workers two more methods, whose stages take time but no work: put this folder on PYTHONPATH.

`slow-draft` is interactive, `slow-final` takes a model as the diffusion methods do. SLOW_PUBLICATION: seconds before
each file of a result gets its final name. SLOW_BEST: the method that is the best that the machine can run.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from paintover_engine.durable import replace_files
from paintover_engine.jobs import finals, publication
from paintover_engine.methods.registry import METHODS, MethodSpec
from slow_method import SlowParameters

SLOW = (("slow-draft", "", ""), ("slow-final", "svd", "small-svd"), ("slow_final", "svd", "small-svd"))
for name, kind, model in SLOW:  # an effect's parameters take no hyphen
    METHODS[name] = MethodSpec(
        name,
        name,
        "Takes its time.",
        SlowParameters,
        "slow_method",
        model_kinds=(kind,) if kind else (),
        default_model=model,
    )


def replace_slowly(renames: Iterable[tuple[Path, Path]]) -> None:
    for rename in renames:
        time.sleep(float(os.environ["SLOW_PUBLICATION"]))
        replace_files([rename])


if "SLOW_PUBLICATION" in os.environ:
    publication.replace_files = replace_slowly

if "SLOW_BEST" in os.environ:
    chosen, model = os.environ["SLOW_BEST"], "small-svd"
    final = finals.Final(chosen, model, f"Carried by the method {chosen} with {model}, on a GPU of tests.")
    finals.Finals._best = lambda self: final  # no GPU is here to choose by
