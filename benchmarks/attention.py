#!/usr/bin/env python3
"""Attention matching against a dense evaluation of the paper's equations: time and memory of one layer of one frame.

    python benchmarks/attention.py                     # the CPU: 2,304 tokens, 10 heads
    python benchmarks/attention.py --device cuda       # 9,216 tokens, 5 heads, bfloat16, the fused kernel too

Each way runs in a process of its own. On the CPU memory is the rise of the process's resident set above what its
inputs took, sampled every 0.5 ms while it works (and the kernel's own high-water mark, /proc/self/status VmHWM, where
it can be reset); on CUDA it is PyTorch's peak. Time is the best of several runs; on the CPU the process's own (user and
system, all threads), which other programs at work disturb least. The dense way evaluates the equations as they stand,
with whole maps in float32, and gives the edit's output, the source's own and the mask, as the others do.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES = {"cpu": (2304, 10), "cuda": (9216, 5)}


def main() -> None:
    """Prints one row a way, or with --only, one way's figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=CASES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments)))
        return
    ways = ["dense", "tiled"] + (["fused"] if arguments.device == "cuda" else [])
    rows = {way: _in_a_process(way) for way in ways}
    dense = rows["dense"]
    print("| way | seconds | times faster | MB | share of the memory | largest error | threshold flips |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for way, row in rows.items():
        print(
            f"| {way} | {row['seconds']:.3f} | {dense['seconds'] / row['seconds']:.1f} | {row['bytes'] / 1e6:.1f} | "
            f"1/{dense['bytes'] / row['bytes']:.0f} | {row['error']:.1e} | {row['flips']} of {row['rows']} |"
        )


def _in_a_process(way: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--only", way]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One way's time, memory, and distance from the dense way."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch
    from paintover_engine.diffusion import attention

    torch.set_num_threads(arguments.threads)
    ways: dict[str, Callable[..., Any]] = {"dense": attention.match_dense, "tiled": attention.match_tiled}
    if arguments.only == "fused":
        from paintover_engine.diffusion.attention_triton import match_fused

        ways["fused"] = lambda edited, source: match_fused(edited, source, attention.THRESHOLD)
    tokens, heads = CASES[arguments.device]
    edited, source = videos(arguments.frames, heads, tokens, arguments.device)
    way = ways[arguments.only]
    warm = [attention.Video(*(part[:, :1, :64].contiguous() for part in vars(v).values())) for v in (edited, source)]
    way(*warm)
    gc.collect()
    found, used = (_on_cuda if arguments.device == "cuda" else _on_cpu)(lambda: way(edited, source))
    seconds = [_seconds(lambda: way(edited, source), arguments.device) for _ in range(arguments.runs)]
    exact = attention.match_dense(edited, source)
    return {
        "seconds": min(seconds),
        "bytes": used,
        "error": float((found.edited.float() - exact.edited.float()).abs().max()),
        "flips": int(((found.mask == 1) != (exact.mask == 1)).sum()),
        "rows": found.mask.numel(),
    }


def videos(frames: int, heads: int, tokens: int, device: str) -> Any:
    """An edited video and its source, half of whose queries lie on either side of the threshold."""
    import torch
    from paintover_engine.diffusion.attention import Video

    torch.manual_seed(1)
    query, key, value = (torch.randn(frames, heads, tokens, 64) for _ in range(3))
    shares = torch.linspace(0, 1.2, tokens)[:, None]
    moved = query + shares * torch.randn_like(query), key + shares * torch.randn_like(key)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    both = (Video(*moved, torch.randn_like(value)), Video(query, key, value))
    return [Video(*(part.to(device, dtype) for part in vars(video).values())) for video in both]


def _seconds(work: Callable[[], Any], device: str) -> float:
    import torch

    clock = time.perf_counter if device == "cuda" else time.process_time
    started = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def _on_cuda(work: Callable[[], Any]) -> tuple[Any, int]:
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = work()
    torch.cuda.synchronize()
    return found, torch.cuda.max_memory_allocated() - before


def _on_cpu(work: Callable[[], Any]) -> tuple[Any, int]:
    """What some work gives, and how far the resident set rose meanwhile."""
    before, top, done = _resident("VmRSS"), 0, threading.Event()

    def watch() -> None:
        nonlocal top
        while not done.wait(0.0005):
            top = max(top, _resident("VmRSS"))

    watcher = threading.Thread(target=watch)
    resettable = _reset_high_water()
    watcher.start()
    found = work()
    done.set()
    watcher.join()
    if resettable:
        top = max(top, _resident("VmHWM"))
    return found, max(top - before, 1)


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _resident(name: str) -> int:
    """VmRSS, the resident set now, or VmHWM, its largest so far, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
