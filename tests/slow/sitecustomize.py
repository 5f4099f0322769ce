"""Gives a daemon and its workers two more methods, whose stages take time but no work: put this folder on PYTHONPATH.

`slow-draft` is interactive, `slow-final` takes a model as the diffusion methods do.
"""

from paintover_engine.methods.registry import METHODS, MethodSpec
from slow_method import SlowParameters

for name, takes_model in (("slow-draft", False), ("slow-final", True)):
    METHODS[name] = MethodSpec(name, name, "Takes its time.", SlowParameters, "slow_method", takes_model=takes_model)
