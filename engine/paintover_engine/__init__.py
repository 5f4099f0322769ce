"""Paintover's engine: carries a painted keyframe through a shot."""

__version__ = "0.1.0"
