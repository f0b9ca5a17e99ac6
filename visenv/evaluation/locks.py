"""Locks on files, which end with the process that holds them, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visenv.errors import InvalidData

_BEYOND = 2**30
"""Where Windows locks a byte: beyond all content, since its locks forbid reading."""


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone; False if another one holds it.

    Raises:
        InvalidData: if the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise InvalidData(
            f"Expected a file system with locks, so that processes do not write over each other, but {error.strerror}: "
            "name another folder."
        ) from error
    return True


@contextmanager
def locked(path: Path, patience: float = 60.0) -> Iterator[None]:
    """Hold a lock file while this is entered, waiting for whoever holds it.

    Args:
        path: of the file, made if it is missing and left there.
        patience: seconds to wait.

    Raises:
        InvalidData: if it stays taken.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        until = time.monotonic() + patience
        while not try_lock(descriptor):
            if time.monotonic() > until:
                raise InvalidData(f"Expected {str(path)!r} to be free soon, but another process holds it.")
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make sure that a folder's list of files is on the disk; where a system has no such call, nothing."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, also after a power cut.

    Raises:
        InvalidData: if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except OSError as error:
        raise InvalidData(f"Cannot write {str(path)!r}: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)
