"""Paintover in Photoshop: a UXP panel (manifest 5) that talks to the engine's monitor over HTTP, on this machine.

Shots, frames to paint on, saves: `paintover_engine.service.monitor.painting` answers. The panel finds an engine by its
data folder once its monitor has been opened, which `paintover paint` does for Photoshop, and `paintover monitor`.
"""

from __future__ import annotations

from pathlib import Path

PANEL = Path(__file__).parent / "panel"
