"""What runs inside other programs. Shims alone: each reads its host's facts, runs the `paintover` command, and shows
what comes back; the work is done by the command and its engine.

Nothing here imports more than the standard library and its host's own modules, for it runs in other programs' Pythons.
Each host's package has `files(...)`: what an installer puts where, as `{path: contents}`.
"""
