"""Which failures are worth another try, how often, and after what pause."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from paintover_engine.errors import Code

MAX_WORKER_CRASHES = 5  # in one stage, before its job fails
RETRY_BACKOFF = (1.0, 3.0, 9.0)  # seconds before the first, second and third retry
TRANSIENT_CODES = (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)  # memory, disks and servers recover; a bad file does not


@dataclass
class RetryState:
    """Failures of a job since a stage of it last succeeded.

    errors: transient ones; crashes: of workers, by the stage's label; retry_at: on the monotonic clock, which a change
    of the time of day does not move."""

    errors: int = 0
    crashes: dict[str, int] = field(default_factory=dict)
    retry_at: float = 0.0


class RetryPolicy:
    """The retry states of all jobs, by job number."""

    def __init__(self) -> None:
        self._states: dict[int, RetryState] = {}

    def reset(self, job_id: int) -> None:
        """A stage succeeded, or the job starts anew."""
        self._states.pop(job_id, None)

    def seconds_left(self, job_id: int) -> float:
        """Until the job may be tried; not positive: now."""
        state = self._states.get(job_id)
        return state.retry_at - time.monotonic() if state else 0.0

    def after_error(self, job_id: int, code: Code) -> float | None:
        """Counts an error and returns the seconds until the retry; None where the job is to fail."""
        state = self._states.setdefault(job_id, RetryState())
        if code not in TRANSIENT_CODES or state.errors >= len(RETRY_BACKOFF):
            return None
        pause = RETRY_BACKOFF[state.errors]
        state.errors += 1
        state.retry_at = time.monotonic() + pause
        return pause

    def after_crash(self, job_id: int, stage: str) -> int:
        """Counts a crash of the worker in a stage and returns how many that were. From the second on the retry waits;
        at `MAX_WORKER_CRASHES` the job is to fail."""
        state = self._states.setdefault(job_id, RetryState())
        crashes = state.crashes[stage] = state.crashes.get(stage, 0) + 1
        if 1 < crashes < MAX_WORKER_CRASHES:
            state.retry_at = time.monotonic() + RETRY_BACKOFF[min(crashes - 2, len(RETRY_BACKOFF) - 1)]
        return crashes
