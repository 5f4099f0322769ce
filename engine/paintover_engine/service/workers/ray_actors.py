"""`python -m paintover_engine.service.workers.ray_actors`: has the nodes of a Ray cluster join an engine.

The engine starts this process and imports no Ray itself. For every GPU of the cluster, and every node without one, it
places an actor, which does no more than what `paintover worker --join` does: stages and files go over the engine's own
protocol, so a lost node costs what a lost machine costs. Nodes that come later get actors, too. When standard input
ends, the engine is gone, and this process takes its actors with it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from paintover_local.private_files import read_private
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Place:
    """A device of the cluster. number: of the node's GPUs; -1: its processor."""

    node: str
    address: str
    number: int

    @property
    def name(self) -> str:
        return f"ray {self.address}" + (f" GPU {self.number}" if self.number >= 0 else "")


class Joined:
    """A machine that joined, for as long as the actor's process lives: it computes in it and in its children."""

    def join(self, place: Place, options: list[str], token: str) -> int:
        """Joins. Ray shows the process the place's GPU alone, by CUDA_VISIBLE_DEVICES."""
        from paintover_local.private_files import write_private

        from paintover_engine.jobs.folders import default_data_folder
        from paintover_engine.service.workers.__main__ import main as join

        root = default_data_folder() / "ray" / place.name.replace(" ", "-")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(root / "worker-token", token.encode())
        own = ["--data-dir", str(root / "worker"), "--token-file", str(root / "worker-token"), "--name", place.name]
        return join([*own, "--cpu-workers", "0" if place.number >= 0 else "1", *options])


def places(nodes: list[dict[str, Any]]) -> Iterator[Place]:
    """The devices of the nodes that live: every GPU; of a node without one, its processor."""
    for node in nodes:
        if node["Alive"]:
            gpus = int(node["Resources"].get("GPU", 0))
            for number in range(gpus) if gpus else (-1,):
                yield Place(node["NodeID"], node["NodeManagerAddress"], number)


def keep_joined(options: list[str], token: str) -> None:
    """Has every place joined, those too whose actor ended, until the cluster is gone."""
    joined: dict[Place, tuple[Any, Any]] = {}  # the actor, and what becomes of it
    while True:
        living = set(places(ray.nodes()))
        ended = (
            set(ray.wait([end for _, end in joined.values()], num_returns=len(joined), timeout=0)[0]) if joined else ()
        )
        for place, (_, end) in list(joined.items()):
            if place not in living or end in ended:
                del joined[place]
        for place in living - joined.keys():
            gpus = 1 if place.number >= 0 else 0
            here = NodeAffinitySchedulingStrategy(place.node, soft=False)
            actor = ray.remote(Joined).options(num_cpus=1, num_gpus=gpus, scheduling_strategy=here).remote()
            joined[place] = (actor, actor.join.remote(place, options, token))
        time.sleep(POLL_SECONDS)


def main() -> None:
    """Connects to the cluster, and has it join the engine."""
    parser = argparse.ArgumentParser(prog="paintover-ray")
    parser.add_argument("--ray", required=True)
    parser.add_argument("--join", required=True)
    parser.add_argument("--fingerprint", default="")
    parser.add_argument("--token-file", type=Path, required=True)
    arguments = parser.parse_args()
    threading.Thread(target=_end_with_the_engine, daemon=True).start()
    token = read_private(arguments.token_file).decode("ascii").strip()
    ray.init(address=arguments.ray, logging_level="WARNING", log_to_driver=False)
    keep_joined(["--join", arguments.join, "--fingerprint", arguments.fingerprint], token)


def _end_with_the_engine() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # Ray ends the actors of a driver that is gone


if __name__ == "__main__":
    main()
