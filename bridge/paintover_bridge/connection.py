"""One open connection to an engine: its channel and the stubs of its services; and how often engines crash."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from paintover.v1 import engine_pb2_grpc, frame_pb2_grpc, job_pb2_grpc, keyframe_pb2_grpc, shot_pb2_grpc

from paintover_bridge import daemon
from paintover_bridge.channel import OPTIONS, is_lost, metadata
from paintover_bridge.daemon import Endpoint
from paintover_bridge.errors import unavailable

_MAX_ENGINE_CRASHES = 3


@dataclass(frozen=True)
class Connection:
    """A channel to one engine, and the metadata that each call carries: its token and the client's protocol."""

    endpoint: Endpoint
    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...]
    engine: engine_pb2_grpc.EngineServiceStub
    shots: shot_pb2_grpc.ShotServiceStub
    keyframes: keyframe_pb2_grpc.KeyframeServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    frames: frame_pb2_grpc.FrameServiceStub


def open_connection(endpoint: Endpoint) -> Connection:
    """Connects lazily: gRPC reaches for the engine at the first call."""
    channel = grpc.insecure_channel(endpoint.address, OPTIONS)
    return Connection(
        endpoint,
        channel,
        metadata(daemon.read_token(endpoint.folder)),
        engine_pb2_grpc.EngineServiceStub(channel),
        shot_pb2_grpc.ShotServiceStub(channel),
        keyframe_pb2_grpc.KeyframeServiceStub(channel),
        job_pb2_grpc.JobServiceStub(channel),
        frame_pb2_grpc.FrameServiceStub(channel),
    )


class CrashCounter:
    """Counts an engine's crashes since it last made progress, so that a call that crashes it is not repeated for
    ever."""

    def __init__(self) -> None:
        self._best = float("-inf")
        self._count = 0

    def progressed(self, progress: float) -> None:
        if progress > self._best:
            self._best, self._count = progress, 0

    def count(self, error: grpc.RpcError, endpoint: Endpoint) -> None:
        self._count += is_lost(error)
        if self._count > _MAX_ENGINE_CRASHES:
            raise unavailable(f"The engine ended {self._count} times without getting further; see {endpoint.log}.")
