"""A clock that jumps by a day, to and fro, each time it is read: put this folder on PYTHONPATH."""

import itertools
import time

_true = time.time
_jumps = itertools.cycle((0.0, 86400.0, -86400.0))
time.time = lambda: _true() + next(_jumps)
