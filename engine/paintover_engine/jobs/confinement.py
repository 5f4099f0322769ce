"""Confines a worker to the folders that its engine may touch, by Linux's Landlock (kernel 5.19 and later).

Paths are checked before a worker is given them, but a link can be put in their place between the check and the use,
or lie in the midst of a sequence. The kernel looks at what is really opened.
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOTS = "PAINTOVER_ROOTS"  # environment variable of workers: folders, parted as in $PATH

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every processor
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_READ = 1 << 2 | 1 << 3  # READ_FILE, READ_DIR
_WRITE_FILE = 1 << 1
_TRUNCATE = 1 << 14  # of version 3
_CHANGE = sum(1 << bit for bit in range(4, 14))  # REMOVE_*, MAKE_* and REFER, which is of version 2
_OF_FILES = _WRITE_FILE | 1 << 2 | _TRUNCATE
_OLDEST = 2  # before it, no file could be renamed into another folder

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/proc", "/sys", "/nix", "/var/cache/fontconfig")
_DEVICES = "/dev"


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def confine(roots: Sequence[Path], data_folder: Path) -> bool:
    """Lets this process open files below the roots and the data folder only, and read libraries, models and settings.

    Its temporary files go into the data folder. For ever, and for its children, too. False where the system cannot:
    then the checks of paths stand alone. Raises OSError where it can and does not."""
    version = _version()
    if version < _OLDEST:
        return False
    own = [data_folder, *(entry for entry in data_folder.iterdir() if entry.is_dir())]  # which may be links
    tempfile.tempdir = str(data_folder / "temporary")
    os.environ["TMPDIR"] = tempfile.tempdir
    everything = _READ | _WRITE_FILE | _CHANGE | (_TRUNCATE if version >= 3 else 0)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(_Ruleset(everything)), ctypes.sizeof(_Ruleset), 0)
    try:
        _allow(ruleset, _libraries_and_settings(), _READ)
        _allow(ruleset, [*roots, *own, Path(_DEVICES)], everything)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _libraries_and_settings() -> list[Path]:
    """What a worker reads beside shots: Python, libraries, the colour configuration, and models."""
    environment = os.environ
    home = Path.home()
    paths = [*_SYSTEM, sys.prefix, sys.base_prefix, os.path.realpath(sys.executable), *_library_folders()]
    paths += filter(None, environment.get("PAINTOVER_MODELS", "").split(os.pathsep))
    paths.append(environment.get("HF_HOME") or str(home / ".cache" / "huggingface"))
    paths += [environment[name] for name in ("HF_HUB_CACHE", "CUDA_HOME") if environment.get(name)]
    if (colours := environment.get("OCIO")) and "://" not in colours:
        paths.append(os.path.dirname(colours))
    return [Path(path) for path in paths]


def _library_folders() -> list[str]:
    """Without the folder that the engine was started in, which Python looks through first."""
    return [path for path in sys.path if path and path != os.getcwd()]


def _allow(ruleset: int, paths: Iterable[Path], access: int) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _Rule(access if path.is_dir() else access & _OF_FILES, descriptor)
                _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
            finally:
                os.close(descriptor)


def _version() -> int:
    """Of the kernel's Landlock; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:  # an older kernel, one without it, or a container that forbids it
        return 0


def _call(number: int, *arguments: object) -> int:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    result = int(syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result
