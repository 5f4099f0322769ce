"""What callers may take of the daemon before and after it knows them: messages, connections, open files."""

from __future__ import annotations

import contextlib
import sys

MESSAGE_BYTES = 64 * 2**20  # a keyframe sent inline; only who has the token is read at all
HANDSHAKE_SECONDS = 5  # a connection that does not speak HTTP/2 by then is closed
WAITING_CALLS = 2**16  # that the daemon has not looked at yet; gRPC refuses more, as CANCELLED and without a word
WAITING_SECONDS = 600  # that such a call may wait; then likewise
IDLE_SECONDS = 60  # one without calls, too; clients connect again by themselves


def server_options() -> list[tuple[str, int]]:
    """gRPC's settings of the server. Half of the files that the process may open are left to the engine itself."""
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.so_reuseport", 0),  # two daemons never share a port
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        # Else it begins to refuse at random from 1,000 on, and after 30 seconds: a loaded machine gets there.
        ("grpc.server.max_pending_requests", WAITING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", WAITING_CALLS),
        ("grpc.server_max_unrequested_time_in_server", WAITING_SECONDS),
    ]
    files = _file_limit()
    return [*options, ("grpc.max_allowed_incoming_connections", files // 2)] if files else options


def raise_file_limit() -> None:
    """Lets the process open as many files and connections as the system allows: many systems begin with 1,024."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # macOS knows a lower limit than it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _file_limit() -> int:
    """How many files the process may open; 0 where there is no such limit."""
    if sys.platform == "win32":
        return 0
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else min(soft, 2**20)
