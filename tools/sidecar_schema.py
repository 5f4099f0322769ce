"""Writes docs/sidecar.schema.json: what the JSON file beside every output holds.

python tools/sidecar_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from paintover_engine.jobs.sidecar import Sidecar

SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "sidecar.schema.json"


def schema() -> str:
    """The file's text."""
    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Sidecar.model_json_schema(mode="serialization"),
    }
    return json.dumps(described, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
