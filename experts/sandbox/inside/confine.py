"""What makes a cell of a process: an identity of its own, namespaces, limits, and no privilege that is left."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any

from . import seccomp

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_SET_DUMPABLE, _CAPBSET_DROP, _CHILD_SUBREAPER, _NO_NEW_PRIVS, _CAP_AMBIENT = 4, 24, 36, 38, 47
_NO_RANDOM_ADDRESSES = 0x40000
_CAPABILITY_VERSION = 0x20080522
INNER_ID = 1000
"""What a program is told that its user and its group are."""

try:
    libc = ctypes.CDLL(None, use_errno=True)
except TypeError:
    # Windows, where this can be imported but nothing is run.
    libc = ctypes.CDLL("msvcrt", use_errno=True)


def fix_addresses() -> bool:
    """Have the programs that this process becomes lie at the same addresses each time, where the system lets it.

    Addresses are what ``id`` gives, and orders of sets depend on them.

    Returns:
        Whether that is new, so that this program has to be started again.
    """
    if not hasattr(libc, "personality"):
        return False
    now = libc.personality(0xFFFFFFFF)
    return now != -1 and not now & _NO_RANDOM_ADDRESSES and libc.personality(now | _NO_RANDOM_ADDRESSES) != -1


def become(user: int) -> None:
    """Be another user, who has no other process, for good. Needs root.

    Limits on the number of processes do not hold for root.
    """
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    # Whoever changes its user is hidden from itself, /proc/self included, unless it says otherwise.
    libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)


def enter_namespaces() -> None:
    """Give this process users and mounts of its own, and its next child processes of its own, too.

    Raises:
        OSError: if the kernel does not let it.
    """
    user, group = os.getuid(), os.getgid()
    _checked(libc.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWIPC | _NEWUTS), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{INNER_ID} {user} 1"),
        ("gid_map", f"{INNER_ID} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def mount_folder(folder: str, size: int, files: int) -> None:
    """Lay an empty folder in memory over a path, that holds so many bytes and so many files."""
    # One for the folder itself, which the file system counts, too.
    _mount_memory(folder, 0, f"size={size},nr_inodes={files + 1},mode=0700")


def hide(path: str) -> None:
    """Lay emptiness over a path, for this process and its children alone."""
    _checked(libc.unshare(_NEWNS), "unshare")
    _mount_memory(path, _RDONLY, "size=4k,nr_inodes=1,mode=0555")


def adopt_orphans() -> None:
    """Become the parent of whatever this process's children leave behind, where the system can do that."""
    if hasattr(libc, "prctl"):
        libc.prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_limits(limits: Mapping[str, Any], base_bytes: int) -> None:
    """Bound what this process and its children may use.

    Args:
        limits: as the server was given them.
        base_bytes: of address space that it has already.
    """
    import resource

    seconds = max(1, int(limits["cpu_seconds"]))
    wanted = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": limits["folder_bytes"],
        "RLIMIT_AS": base_bytes + limits["memory_bytes"],
        "RLIMIT_NOFILE": 256,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_SIGPENDING": 256,
        "RLIMIT_NICE": 0,
        "RLIMIT_RTPRIO": 0,
    }
    if limits["namespaces"]:
        # This process and its keeper count, too. Outside of a namespace all that the user runs would.
        wanted["RLIMIT_NPROC"] = limits["processes"] + 2
    for name, value in wanted.items():
        if not hasattr(resource, name):
            continue
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def drop_everything() -> None:
    """Give up every privilege for good, and system calls that nothing here needs.

    Raises:
        OSError: if the kernel refuses.
    """
    if not hasattr(libc, "prctl"):
        return
    for capability in range(64):
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(_CAP_AMBIENT, 4, 0, 0, 0)  # all of them
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if seccomp.supported():
        seccomp.install(libc)


def _mount_memory(path: str, flags: int, options: str) -> None:
    flags |= _NOSUID | _NODEV | _NOEXEC
    _checked(libc.mount(b"memory", path.encode(), b"tmpfs", flags, options.encode()), f"mount {path}")


def _checked(result: int, what: str) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
