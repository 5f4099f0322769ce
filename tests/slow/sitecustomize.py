"""Gives a daemon and its workers two more methods, whose stages take time but no work: put this folder on PYTHONPATH.

`slow-draft` is interactive, `slow-final` takes a model as the diffusion methods do.
"""

from paintover_engine.methods.registry import METHODS, MethodSpec
from slow_method import SlowParameters

for name, kind, model in (("slow-draft", "", ""), ("slow-final", "svd", "small-svd")):
    METHODS[name] = MethodSpec(
        name,
        name,
        "Takes its time.",
        SlowParameters,
        "slow_method",
        model_kinds=(kind,) if kind else (),
        default_model=model,
    )
