"""The last process: it locks its own door, and runs somebody's program."""

from __future__ import annotations

import atexit
import contextlib
import gc
import linecache
import os
import random
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any

from . import confine

NAME = "program.py"
_OUTPUT, _ERROR, _READY = 1, 3, 4
_ERROR_CHARS = 2000
_LINE_CHARS = 200


def run(request: Mapping[str, Any], image: bytes, limits: Mapping[str, Any], ends: Mapping[str, int]) -> None:
    """Run a program in this process, and end it. Nothing of the caller's is left open.

    Args:
        request: with ``code``, ``source`` and ``target``.
        image: the file that the program finds.
        limits: as the server was given them.
        ends: descriptors: ``output`` and ``error`` to write to, and ``ready`` to say that the program begins.
    """
    try:
        # High numbers first, so that none of them is written over before it has its place.
        places = {_OUTPUT: ends["output"], _ERROR: ends["error"], _READY: ends["ready"]}
        high = {place: _moved_up(end) for place, end in places.items()}
        nothing = _moved_up(os.open(os.devnull, os.O_RDWR))
        for place, end in {0: nothing, 2: high[_OUTPUT], **high}.items():
            os.dup2(end, place)
        os.closerange(_READY + 1, 1 << 16)
        _prepare(request["source"], image, limits)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(_READY, f"{type(error).__name__}: {error}".encode()[:1000])
        os._exit(1)
    os.write(_READY, b"+")
    os.close(_READY)
    os._exit(_execute(request["code"], dict(limits["environment"])))


def _prepare(source: str, image: bytes, limits: Mapping[str, Any]) -> None:
    with open(source, "xb") as file:
        file.write(image)
    base = 0
    with contextlib.suppress(OSError), open("/proc/self/statm") as statm:
        base = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    os.setsid()
    if limits["namespaces"]:
        confine.hide("/proc")
    confine.set_limits(limits, base)
    confine.drop_everything()


def _execute(code: str, environment: dict[str, str]) -> int:
    """The exit status; what went wrong is written to the pipe of errors."""
    os.environ.clear()
    os.environ.update(environment, HOME=os.getcwd(), TMPDIR=os.getcwd())
    sys.argv[:] = [NAME]
    sys.path[:] = [place for place in sys.path if not place.startswith("/runner")]
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    module = types.ModuleType("__main__")
    module.__dict__["__file__"] = NAME
    sys.modules["__main__"] = module
    linecache.cache[NAME] = (len(code), None, code.splitlines(True), NAME)
    gc.enable()
    status = 0
    try:
        exec(compile(code, NAME, "exec"), module.__dict__)
    except SystemExit as leaving:
        status = _exit_status(leaving.code)
    except BaseException as error:
        _report(error, code)
        status = 1
    # As at any program's end: idle pools are told, threads waited for, and what was registered is called.
    for last in (threading._shutdown, atexit._run_exitfuncs, lambda: sys.stdout.flush()):  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            last()
    return status


def _exit_status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    _write(_said(lambda: str(code)))
    return 1


def _report(error: BaseException, code: str) -> None:
    """Say what went wrong: the program's own lines alone, and the message."""
    lines = code.splitlines()
    told = []
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == NAME and isinstance(number, int) and 1 <= number <= len(lines):
            told.append(f"line {number}: {lines[number - 1].strip()[:_LINE_CHARS]}")
    if isinstance(error, SyntaxError) and error.filename == NAME and error.lineno:
        line = lines[error.lineno - 1].strip()[:_LINE_CHARS] if error.lineno <= len(lines) else ""
        told.append(f"line {error.lineno}: {line}")
        message = _said(lambda: f"{type(error).__name__}: {error.msg}")
    else:
        message = _said(lambda: "".join(traceback.format_exception_only(type(error), error)).strip())
    if len(told) > 6:
        told = [*told[:3], "...", *told[-3:]]
    _write("\n".join([*told, message]))


def _said(say: Callable[[], Any]) -> str:
    """A text that a program's own code makes, which may do anything."""
    try:
        return str(say())[: 2 * _ERROR_CHARS]
    except BaseException:
        return "an exception that cannot be printed"


def _write(text: str) -> None:
    if len(text) > _ERROR_CHARS:
        text = f"{text[: _ERROR_CHARS // 2]}\n[...]\n{text[-_ERROR_CHARS // 2 :]}"
    with contextlib.suppress(OSError):
        os.write(_ERROR, text.encode("utf-8", "backslashreplace"))


def _moved_up(end: int) -> int:
    import fcntl

    return fcntl.fcntl(end, fcntl.F_DUPFD, 100)
