#!/bin/sh
# Finds a Python that Paintover runs with, and starts install.py beside this file with it. PYTHON=python3.12 chooses one.
here=$(dirname "$0")
for python in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3.10 python3}; do
    if "$python" -I -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 10)' >/dev/null 2>&1; then
        exec "$python" -I "$here/install.py" "$@"
    fi
done
echo "Paintover needs Python 3.10 or later with venv; install it first (Debian, Ubuntu: apt install python3-venv)." >&2
exit 1
