"""Pickles without their power: containers, texts and numbers, and nothing that could run.

A pickle is a program; loading one with ``pickle.load`` runs it. RefCOCO is published as one, so this reads what such a
file needs and refuses every name of a class or function before it is looked up. Its instructions are walked through
first: one that asks for a place far beyond the file's own size would have Python reserve the memory for it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from visenv.datasets.files import read_bytes
from visenv.errors import DatasetError

MAX_PICKLE_BYTES = 2**29
"""The largest pickle that is read; that of RefCOCO has some 50 MB."""

_STOP, _LONG_BINPUT, _PUT, _GLOBAL, _INST = b".rpci"
_BYTES_OF_LENGTH = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_FIXED = [0] * 256
"""Bytes that an instruction takes, itself included; 0 where that varies, or where it is looked at."""
_COUNTED = [0] * 256
"""Bytes of the length that stands before what an instruction takes."""
_KNOWN = {ord(each.code) for each in pickletools.opcodes}
for _each in pickletools.opcodes:
    _taken = 0 if _each.arg is None else _each.arg.n
    if _taken >= 0 and ord(_each.code) not in (_STOP, _LONG_BINPUT):
        _FIXED[ord(_each.code)] = 1 + _taken
    _COUNTED[ord(_each.code)] = _BYTES_OF_LENGTH.get(_taken, 0)


class _Plain(pickle.Unpickler):
    """An unpickler to which no class, function or object of elsewhere exists."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, reference: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to an object outside of itself")


def read_pickle(path: Path) -> Any:
    """What a pickle of plain data holds: dicts, lists, tuples, sets, texts, bytes, numbers, booleans, None.

    Texts of Python 2 are read as Latin-1, as the published code does.

    Args:
        path: the file.

    Raises:
        DatasetError: if it cannot be read, is too large, is cut off or broken, or asks for anything but plain data.
    """
    data = read_bytes(path, MAX_PICKLE_BYTES)
    try:
        _walk(data)
        return _Plain(io.BytesIO(data), encoding="latin1").load()
    # A broken pickle raises whatever its last instruction ran into.
    except Exception as error:
        raise DatasetError(
            f"Expected a pickle of plain data in {str(path)!r}, but it is refused: "
            f"{error or type(error).__name__}. Nothing in it was run."
        ) from error


def _walk(data: bytes) -> None:
    """Look at every instruction, and run none.

    Raises:
        UnpicklingError: if one is none, is cut off, or asks for a place beyond as many as there can be.
    """
    place, end, fixed, counted = 0, len(data), _FIXED, _COUNTED
    while place < end:
        code = data[place]
        if fixed[code]:
            place += fixed[code]
        elif counted[code]:
            start = place + 1 + counted[code]
            place = start + int.from_bytes(data[place + 1 : start], "little")
        elif code == _LONG_BINPUT:
            if int.from_bytes(data[place + 1 : place + 5], "little") > end:
                break
            place += 5
        elif code == _STOP:
            return
        elif code in _KNOWN:
            line = data.find(b"\n", place)
            if line < 0 or (code == _PUT and int(data[place + 1 : line]) > end):
                break
            # What asks for a class names its module and the class, a line each.
            place = data.find(b"\n", line + 1) + 1 if code in (_GLOBAL, _INST) else line + 1
            if not place:
                break
        else:
            break
    raise pickle.UnpicklingError(f"it is cut off or broken at byte {min(place, end)}")
