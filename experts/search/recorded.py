"""Answers of search services on the disk: each is asked once, and a run can be repeated without the service."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData

MAX_BYTES = 4 * 2**20
"""The largest answer that is read back."""


class Recorded:
    """Passages by what was asked for, a JSON file each.

    A file is whole from the moment at which it is there, so that any number of processes may share a folder. One that
    is broken, or answers something else, counts as missing and is written anew.

    Args:
        folder: made where it is missing.

    Raises:
        InvalidData: if it cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().resolve()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidData(f"Cannot keep answers in {str(self.folder)!r}: {error.strerror or error}.") from error

    def path(self, asked: dict[str, Any]) -> Path:
        """Where an answer is, or would be."""
        written = json.dumps(asked, sort_keys=True).encode()
        return self.folder / f"{hashlib.blake2b(written, digest_size=16).hexdigest()}.json"

    def get(self, asked: dict[str, Any]) -> list[tuple[str, str]] | None:
        """The answer to what was asked; None where there is none."""
        try:
            with open(self.path(asked), "rb") as file:
                data = file.read(MAX_BYTES + 1)
            value = json.loads(data) if len(data) <= MAX_BYTES else None
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or value.get("asked") != asked or not isinstance(value.get("passages"), list):
            return None
        rows = value["passages"]
        for row in rows:
            if not isinstance(row, list) or len(row) != 2 or not all(isinstance(part, str) for part in row):
                return None
        return [(title, text) for title, text in rows]

    def put(self, asked: dict[str, Any], passages: list[tuple[str, str]]) -> None:
        """Keep an answer.

        Raises:
            InvalidData: if it cannot be written.
        """
        value = {"asked": asked, "passages": passages}
        try:
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".answer-", suffix=".tmp")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(value, file, ensure_ascii=True, indent=1)
                os.replace(name, self.path(asked))
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        except OSError as error:
            raise InvalidData(f"Cannot keep an answer in {str(self.folder)!r}: {error.strerror or error}.") from error
