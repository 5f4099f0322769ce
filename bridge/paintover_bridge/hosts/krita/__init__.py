"""Paintover in Krita: an extension with a menu entry and a docker, in Krita's own Python (3.8 on, PyQt5 or PyQt6)."""
