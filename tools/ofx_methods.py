"""Writes plugin_ofx/methods.json, the methods that the OpenFX effect describes before it has met an engine.

With --check, only says whether what is committed is current. Needs the engine installed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from paintover_engine.methods.registry import METHODS
from paintover_engine.service.messages import method_message

FILE = Path(__file__).resolve().parents[1] / "plugin_ofx" / "methods.json"


def described() -> str:
    """The file's text."""
    methods = [
        MessageToDict(method_message(spec), preserving_proto_field_name=True, use_integers_for_enums=True)
        for spec in METHODS.values()
    ]
    return json.dumps(methods, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Returns the exit code."""
    current = FILE.is_file() and FILE.read_text(encoding="utf-8") == described()
    if "--check" in sys.argv[1:]:
        print("plugin_ofx/methods.json is current" if current else "run tools/ofx_methods.py and commit what it writes")
        return 0 if current else 1
    if not current:
        FILE.write_text(described(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
