"""One small operation on a GPU, and what to install where it fails.

`python -m paintover_engine.methods.gpu_trial KIND`, in a process of its own, for a driver may end or hang it, prints
JSON: `tried`, `problem`, `remedy`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Trial:
    """tried: what works, in words; empty where nothing does. problem, remedy: why not, and what to do."""

    tried: str = ""
    problem: str = ""
    remedy: str = ""


def trial(kind: str) -> Trial:
    """Of the GPU of a kind that this process is shown."""
    try:
        import torch
    except ImportError:
        return Trial(problem="PyTorch is not installed", remedy="install paintover-engine[models]")
    from paintover_engine.diffusion import accelerators, matching
    from paintover_engine.diffusion.memory import first_line

    try:
        row = next(row for row in accelerators.TABLE if row.kind == kind)
        numbers = torch.ones(8, 8, device=row.type)
        assert float((numbers @ numbers).sum()) == 512
        if not row.present():
            raise RuntimeError("it is another kind's build")
    except (RuntimeError, AssertionError) as error:
        return Trial(problem=f"PyTorch {torch.__version__}: {first_line(error)}", remedy=remedy(kind, str(error)))
    why = matching.build(64, row.dtype, torch.device(row.type, 0))
    attention = f"attention in tiles: {why}" if why else "fused attention"
    return Trial(tried=f"PyTorch {torch.__version__} computes on it, {attention}")


def remedy(kind: str, error: str) -> str:
    """What to do where PyTorch refuses a GPU that its driver lists."""
    import torch

    if kind == "mps":
        return "install PyTorch for Apple's own processors, on macOS 14 or later"
    if kind == "rocm" and torch.version.hip is None:
        return "install a PyTorch that was built for ROCm"
    if kind == "cuda" and torch.version.cuda is None:
        return f"install a PyTorch that was built for CUDA; this one ({torch.__version__}) was not"
    if "no kernel image" in error:
        return "install a PyTorch that was built for this GPU's generation"
    if kind == "cuda":
        return f"renew the GPU's driver to one for CUDA {torch.version.cuda}, or install a PyTorch for an older CUDA"
    return "renew the GPU's driver, or install a PyTorch for an older ROCm"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(trial(sys.argv[1]))))
