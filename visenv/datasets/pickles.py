"""Pickles without their power: containers, texts and numbers, and nothing that could run.

A pickle is a program; loading one with ``pickle.load`` runs it. RefCOCO is published as one, so this reads what such a
file needs and refuses every name of a class or function before it is looked up.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from visenv.datasets.files import read_bytes
from visenv.errors import DatasetError

MAX_PICKLE_BYTES = 2**29
"""The largest pickle that is read; that of RefCOCO has some 50 MB."""


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
        return _Plain(io.BytesIO(data), encoding="latin1").load()
    # A broken pickle raises whatever its last instruction ran into.
    except Exception as error:
        raise DatasetError(
            f"Expected a pickle of plain data in {str(path)!r}, but it is refused: "
            f"{error or type(error).__name__}. Nothing in it was run."
        ) from error
