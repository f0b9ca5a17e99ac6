"""A filter for system calls that no program for pictures needs, and that most ways out of a sandbox begin with."""

from __future__ import annotations

import ctypes
import platform
import struct

DENIED = {
    # name: (x86_64, aarch64), None where there is no such call
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "connect": (42, 203),
    "listen": (50, 201),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "vmsplice": (278, 75),
    "io_setup": (206, 0),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "fadvise64": (221, 223),
    "cachestat": (451, 451),
    "flock": (73, 32),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "fanotify_init": (300, 262),
    "uselib": (134, None),
}
"""Calls that fail with EPERM: other processes, namespaces, mounts and where they come from, sockets, keys, memory that
no limit counts, what a whole machine shares (its disks, its caches, locks of its files), the clock, and the kernel's
own doors."""

_MACHINES = {"x86_64": (0, 0xC000003E, 72, 56, 9), "aarch64": (1, 0xC00000B7, 25, 220, 222)}
"""Machine to its column of ``DENIED``, its number for the kernel, and its numbers of ``fcntl``, ``clone``, ``mmap``."""
# SETLK, SETLKW, OFD_SETLK, OFD_SETLKW, SETLEASE, NOTIFY: of files that all programs see, they would tell of each other.
_LOCKS = (6, 7, 37, 38, 1024, 1026)
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020080
# Of memory that is shared and in no file, one page that is mapped keeps all of it, and nothing says how much that is.
_SHARED, _ANONYMOUS = 0x01, 0x20
_FIRST_UNKNOWN = 463
"""Calls from here on, x32's among them, are later than this filter: programs do without them."""
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _FOURTH_ARGUMENT = 0, 4, 16, 24, 40


def supported() -> bool:
    """Whether there is a filter for this machine."""
    return platform.system() == "Linux" and platform.machine() in _MACHINES


def build() -> bytes:
    """The filter, as the kernel takes it: instructions of classic BPF."""
    column, architecture, fcntl, clone, mmap = _MACHINES[platform.machine()]
    numbers = [calls[column] for calls in DENIED.values()]
    denied = [number for number in numbers if number is not None]
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _FIRST_UNKNOWN),
        (_RETURN, 0, 0, _ENOSYS),
        # The C library falls back to clone, whose flags can be read here; those of clone3 cannot.
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _ENOSYS),
    ]
    for number in denied:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    lines += [(_EQUAL, 0, 2 * len(_LOCKS) + 2, fcntl), (_LOAD, 0, 0, _SECOND_ARGUMENT)]
    for lock in _LOCKS:
        lines += [(_EQUAL, 0, 1, lock), (_RETURN, 0, 0, _EPERM)]
    lines += [
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 3, clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _EPERM),
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 4, mmap),
        (_LOAD, 0, 0, _FOURTH_ARGUMENT),
        (_ANY_BIT, 0, 2, _SHARED),
        (_ANY_BIT, 0, 1, _ANONYMOUS),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def install(libc: ctypes.CDLL) -> None:
    """Put the filter on this process, for good.

    Raises:
        OSError: if the kernel refuses.
    """
    code = build()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    holder = ctypes.create_string_buffer(program, len(program))
    if libc.prctl(22, 2, ctypes.c_ulong(ctypes.addressof(holder)), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter of system calls")
