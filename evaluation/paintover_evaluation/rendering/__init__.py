"""Renders scenes: the plate of a frame, the same with the edit, and the edit's matte."""
