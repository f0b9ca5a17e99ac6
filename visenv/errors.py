"""What can go wrong, and whose fault it is.

Three things are kept apart. An *agent's* bad action is data: a ``Malformed`` on the transcript, never an exception. An
*expert's* failure is data too: ``boundary`` turns whatever escapes an expert into one ``ExpertError``, and the pool
turns that into an ``ExpertFailure`` for the one request. What is left are a *user's* mistakes, raised as the exceptions
below with what was expected, what came, and what to do; and bugs, which raise as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class VisenvError(Exception):
    """Any error that visenv raises on purpose."""


class InvalidData(VisenvError, ValueError):
    """A value does not have the shape, range or type that it must have."""


class InvalidImage(InvalidData):
    """A picture cannot be decoded, is too large, or is empty."""


class DatasetError(VisenvError, ValueError):
    """A data set's folder or file is missing, broken, or points outside of itself."""


class UnknownName(VisenvError, LookupError):
    """Nothing is registered under that name; the message offers the nearest ones."""


class DuplicateName(VisenvError, ValueError):
    """A name was registered twice."""


class MissingDependency(VisenvError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class MissingWeights(VisenvError, FileNotFoundError):
    """The weights of a model are not there; the message says which, where they were looked for, and how to get them."""


class EpisodeOver(VisenvError, RuntimeError):
    """A step was asked of an episode that has ended."""


class ExpertError(VisenvError):
    """An expert failed; ``expert`` says which, ``__cause__`` says why."""

    def __init__(self, expert: str, message: str) -> None:
        super().__init__(f"Expert {expert!r} failed: {message}")
        self.expert = expert
        self.message = message


class EndpointError(VisenvError, RuntimeError):
    """A chat endpoint failed for good, after all retries: its episode is invalid, and the run goes on."""


@contextmanager
def boundary(expert: str) -> Iterator[None]:
    """Give every error that escapes an expert one type.

    Args:
        expert: the name under which the failure is recorded.

    Raises:
        ExpertError: for any ``Exception`` raised inside; ``KeyboardInterrupt`` and its like pass through.
    """
    try:
        yield
    except ExpertError:
        raise
    except Exception as error:
        raise ExpertError(expert, f"{type(error).__name__}: {error}") from error
