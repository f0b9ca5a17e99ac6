"""Connecting to Ray: one that is started here, or one that runs already; and telling nobody that it was."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from visenv.errors import InvalidData, MissingDependency

TOKEN_VARIABLE = "VISENV_TOKEN"
"""The environment variable with what servers of experts ask for."""
LOCAL = "local"
"""The address that starts a Ray of one's own, on this machine, for as long as it is needed."""
_REACH_SECONDS = 10.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    # Ray would copy the environment's folder to where uv run starts its workers.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def import_ray() -> Any:
    """The package ``ray``, told not to report its use to anybody.

    Raises:
        MissingDependency: if it is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingDependency('This needs Ray: pip install "visenv[ray]"') from error
    # It says with every start that it asks for a token, which is as it should be.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    return ray


def is_connected() -> bool:
    """Whether this process is connected to a Ray; imports nothing."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def join(address: str, **options: Any) -> bool:
    """Connect this process to a Ray, unless it is connected already.

    Args:
        address: ``"local"`` to start one, bound to the loopback interface; ``"auto"`` for the one of this machine, or
            ``"host:port"``.
        **options: of ``ray.init`` for one that is started, such as ``num_cpus``.

    Returns:
        Whether it was connected by this call, and is to be left by who called.

    Raises:
        InvalidData: if nothing can be reached there.
        MissingDependency: if Ray is not installed.
    """
    ray = import_ray()
    if ray.is_initialized():
        return False
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, _node_ip_address="127.0.0.1", **quiet, **options)
        else:
            if address != "auto":
                _reach(address)
            _show_token()
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InvalidData(
            f"No Ray can be joined at {address!r} ({reason:.300}): start one with `ray start --head`, name another "
            "address as host:port, or use 'local' to start one here."
        ) from error
    finally:
        # Ray puts a handler of its own in the place of whatever the program has.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    return True


def _reach(address: str) -> None:
    """Make sure that somebody listens: Ray would go on trying for minutes.

    Raises:
        OSError: if nobody does.
        ValueError: if it is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("an address is host:port")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()


def _show_token() -> None:
    """Show Ray's own token where this machine has one, as Ray does by itself only for the Ray of this machine."""
    with contextlib.suppress(ImportError):  # what releases before Ray's tokens do not have
        from ray._private.authentication import authentication_token_setup as setup

        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextlib.contextmanager
def joined(address: str, **options: Any) -> Iterator[Any]:
    """A Ray for as long as the block runs; one that was there before stays connected.

    Args:
        address: as ``join`` takes it.
        **options: as ``join`` takes them.

    Yields:
        The package ``ray``.
    """
    ours = join(address, **options)
    ray = import_ray()
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()
