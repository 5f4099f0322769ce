"""What runs inside host programs. Each host's package only reads the host's state, runs the `paintover` command and
shows its events; the command and the engine do the work.

Nothing here imports more than the standard library and its host's own modules, for it runs in other programs' Pythons.
Each host's package has `files(...)`: what an installer puts where, as `{path: contents}`.
"""
