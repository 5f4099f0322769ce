"""How an engine shows that it is the data folder's, before a client shows it the token (RFC 2104, HMAC-SHA-256).

The address is part of it, so that whoever sits at a dead engine's port cannot pass the challenge on to a living one.
"""

from __future__ import annotations

import hmac
import secrets

CHALLENGE = "paintover-challenge"  # metadata of grpc.health.v1.Health/Check: random text
PROOF = "paintover-proof"  # initial metadata of its answer


def new_challenge() -> str:
    """Random text that no engine has seen before."""
    return secrets.token_hex(32)


def prove(token: str, address: str, challenge: str) -> str:
    """The answer to a challenge, in hexadecimal. address: as in the data folder's `engine.json`."""
    return hmac.new(token.encode(), f"{challenge}\n{address}".encode(), "sha256").hexdigest()


def is_proof(given: str | bytes, token: str, address: str, challenge: str) -> bool:
    """Whether it is the answer of an engine that knows the token and answers at the address."""
    given = given.encode() if isinstance(given, str) else given
    return hmac.compare_digest(given, prove(token, address, challenge).encode())
