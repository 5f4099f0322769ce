"""Files and folders that this user alone may have written: how they are made, read and checked.

On Windows the user's profile keeps others out by itself, and nothing is checked.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

POSIX = os.name == "posix"
SECRET = 0o077  # the mode bits that a file lacks which others may not even read
TRUSTED = 0o022  # those of one that others may read but not write
_WRITABLE, _ENTERABLE = 0o022, 0o011


class NotPrivate(OSError):
    """Another user of the machine has or may have a hand in a file or folder. Its text is one sentence."""


def read_private(path: Path, forbidden: int = SECRET) -> bytes:
    """The bytes of a regular file of this user, not by way of a link.

    forbidden: mode bits that it must not have. Raises NotPrivate, or OSError where it cannot be read."""
    if not POSIX:
        return path.read_bytes()
    if path.is_symlink():
        raise NotPrivate(f"{path} is a link, which is not followed; remove it.")
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        _check_entry(path, os.fstat(file.fileno()), forbidden)
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file by one that its owner alone may read: whole or not at all, on the disk when this returns."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(partial, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if POSIX:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_entry(path: Path, found: os.stat_result, forbidden: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotPrivate(f"{path} is not a file; remove it.")
    if found.st_uid != os.geteuid():
        raise NotPrivate(f"{path} belongs to another user (uid {found.st_uid}); remove it.")
    if found.st_mode & forbidden:
        verb = "write" if found.st_mode & TRUSTED else "read"
        raise NotPrivate(f"Other users can {verb} {path} (mode {found.st_mode & 0o777:04o}); remove it.")


def claim_folder(root: Path) -> None:
    """Closes a folder that exists to other users, after a look at what they may have put into it.

    Its files must be this user's and no links. Folders in it may be links (to a larger disk), but each must be this
    user's and writable by nobody else. Raises NotPrivate."""
    if not POSIX:
        return
    before = root.stat()
    if before.st_uid != os.geteuid():
        raise NotPrivate(f"The data folder {root} belongs to another user (uid {before.st_uid}); choose your own.")
    root.chmod(0o700)
    if root.stat().st_mode & SECRET:
        raise NotPrivate(f"The data folder {root} lies on a disk that cannot close it to other users; choose another.")
    was_open = bool(before.st_mode & _WRITABLE)
    for entry in _entries(root, deep=was_open):
        _check_content(Path(entry.path), entry)


def _entries(folder: Path, deep: bool) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if deep and entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path), deep)


def _check_content(path: Path, entry: os.DirEntry[str]) -> None:
    own = entry.stat(follow_symlinks=False)
    if own.st_uid != os.geteuid():
        raise NotPrivate(f"{path} belongs to another user (uid {own.st_uid}); look at it and remove it.")
    if entry.is_symlink():
        target = path.stat() if path.exists() else None
        if target is None or not stat.S_ISDIR(target.st_mode):
            raise NotPrivate(f"{path} is a link, which is not followed; remove it.")
        if target.st_uid != os.geteuid() or target.st_mode & _WRITABLE:
            raise NotPrivate(f"{path} leads to a folder that other users can write; close it to them (chmod 700).")


def writable_by_others(path: Path) -> Path | None:
    """What is to be closed so that nobody but this user (and root) can have written a file: the file itself, or a
    folder on the way to it. None where all is well.

    A folder that others cannot enter keeps them from all that is below it. Raises OSError where it is missing."""
    if not POSIX:
        return None
    if path.is_symlink():
        return path
    path, opening = path.resolve(strict=True), None
    for one in (path, *path.parents):
        found = one.stat()
        others_write = _others_bits(found, _WRITABLE)
        is_folder = stat.S_ISDIR(found.st_mode)
        if found.st_uid not in (os.geteuid(), 0) or (others_write and not (is_folder and found.st_mode & stat.S_ISVTX)):
            opening = opening or one
        elif is_folder and not _others_bits(found, _ENTERABLE):
            return None
    return opening


def _others_bits(found: os.stat_result, bits: int) -> int:
    """Those of the mode bits that somebody else has: a group of this user alone is nobody else."""
    bits &= found.st_mode
    return bits & ~0o070 if bits & 0o070 and _is_own_group(found.st_gid) else bits


def _is_own_group(number: int) -> bool:
    """Whether a group is a user's private one, as many systems make for each user."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(number)
    except KeyError:
        return False
    return user.pw_gid == number and group.gr_name == user.pw_name and not set(group.gr_mem) - {user.pw_name}
