"""`python -m paintover_bridge` is the `paintover` command."""

from __future__ import annotations

from paintover_bridge.cli.app import main

if __name__ == "__main__":
    main()
