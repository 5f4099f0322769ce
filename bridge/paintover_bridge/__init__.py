"""Paintover's light client: what pipelines, host scripts and the `paintover` command talk to the engine with.

Imports nothing by itself. For scripts: `from paintover_bridge.client import connect`.
"""

__version__ = "0.1.0"
