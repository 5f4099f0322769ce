#!/bin/sh
# Makes or renews .venv: `tools/setup.sh` installs what runs, `tools/setup.sh models` also what the diffusion methods
# run on, `tools/setup.sh dev` also what tests and checks.
# Does nothing when .venv is already as the files below say. PYTHON=python3.12 chooses the Python of a new .venv.
set -eu
cd "$(dirname "$0")/.."

VENV=.venv
PACKAGES="protos local bridge engine evaluation"
CAN_MAKE_VENVS='import ensurepip, venv'
IS_SUPPORTED='import sys; assert sys.version_info >= (3, 10)'

say() { printf 'paintover setup: %s\n' "$*"; }
fail() { printf 'paintover setup: %s\n' "$*" >&2; exit 1; }

# What .venv must be made from. The folder counts too: a .venv that was moved or copied points at the old one.
fingerprint() {
    {
        pwd -P
        cat constraints.txt pyproject.toml tools/setup.sh
        for p in $PACKAGES; do cat "$p/pyproject.toml"; done
    } | cksum
}

# Whether the Python $1 runs the one-line program $2.
runs() { "$1" -c "$2" >/dev/null 2>&1; }

# The newest supported Python that can make a .venv, else the newest supported one.
choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        runs "$PYTHON" "$IS_SUPPORTED" || fail "PYTHON=$PYTHON is not a Python of 3.10 or later; name one that is."
        echo "$PYTHON"
        return
    fi
    candidates="python3.14 python3.13 python3.12 python3.11 python3.10 python3"
    for python in $candidates; do
        if runs "$python" "$IS_SUPPORTED; $CAN_MAKE_VENVS"; then echo "$python"; return; fi
    done
    for python in $candidates; do
        if runs "$python" "$IS_SUPPORTED"; then echo "$python"; return; fi
    done
    if command -v python3 >/dev/null 2>&1 && version=$(python3 --version 2>/dev/null); then
        fail "Paintover needs Python 3.10 or later and only $version is here; install a newer one beside it," \
            "then run 'make setup PYTHON=python3.11' (or what it is called)."
    fi
    fail "Paintover needs Python 3.10 or later and there is no python3 here; install it first" \
        "(Debian, Ubuntu: 'sudo apt-get install python3 python3-venv')."
}

# Debian and Ubuntu ship venv's pip in a package of its own, python3.N-venv.
install_venv_package() {
    package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    as_root=""
    if [ "$(id -u)" != 0 ]; then as_root="sudo -n"; fi
    if ! $as_root apt-get --version >/dev/null 2>&1; then
        fail "$1 cannot make virtual environments here; type 'sudo apt-get install $package' and run make again."
    fi
    say "*** $1 CANNOT MAKE VIRTUAL ENVIRONMENTS HERE: INSTALLING $package WITH apt-get ***"
    quietly="env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes"
    install="$as_root $quietly apt-get install -y -qq --no-install-recommends $package"
    $install >/dev/null 2>&1 || { $as_root apt-get update -qq && $install >/dev/null; } ||
        fail "apt-get could not install $package (see above); install it by hand and run make again."
}

make_venv() {
    python=$(choose_python)
    runs "$python" "$CAN_MAKE_VENVS" || install_venv_package "$python"
    say "making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV" || fail "$python could not make $VENV (see above)."
}

# Python compiles what is imported, once, and of PyTorch and what comes with it that is a small part; but nothing
# where it is kept from writing.
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then COMPILE=--compile; else COMPILE=--no-compile; fi

pip_install() {
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check $COMPILE --constraint constraints.txt "$@" ||
        fail "pip could not install what Paintover needs (see above); mend that and run make again."
}

# Runs "$2 …" unless the stamp named $1 says that it ran for what .venv is to be made from.
once() {
    stamp="$VENV/.paintover-$1"
    shift
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    "$@"
    echo "$wanted" >"$stamp"
}

install_runtime() {
    say "installing what Paintover runs with into $VENV (under a minute on most lines, once)"
    pip_install --upgrade pip hatchling
    editables=""
    for p in $PACKAGES; do editables="$editables --editable ./$p"; done
    # shellcheck disable=SC2086  # one word each
    pip_install --no-build-isolation $editables
}

install_models() {
    say "installing PyTorch and what else the diffusion methods run on into $VENV (a few GB, some minutes, once)"
    pip_install --no-build-isolation --editable "./engine[models]"
}

install_dev() {
    say "installing what tests and checks run with into $VENV (once)"
    pip_install --group dev
}

wanted=$(fingerprint)
runs "$VENV/bin/python" "$IS_SUPPORTED; import pip" || make_venv
once run install_runtime
case "${1:-}" in
models) once models install_models ;;
dev)
    once models install_models
    once dev install_dev
    ;;
esac
