"""One open connection to an engine: its channel and the stubs of its services."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from paintover.v1 import engine_pb2_grpc, frame_pb2_grpc, job_pb2_grpc, keyframe_pb2_grpc, shot_pb2_grpc

from paintover_bridge import daemon
from paintover_bridge.channel import OPTIONS, metadata
from paintover_bridge.daemon import Endpoint


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
