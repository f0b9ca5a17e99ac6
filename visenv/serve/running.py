"""Starting experts on Ray Serve, saying what runs where, and stopping them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from visenv.capabilities import Expert
from visenv.clusters import LOCAL, import_ray, join
from visenv.errors import InvalidData, MissingDependency, VisenvError
from visenv.serve.ingress import STORE_BYTES, Ingress
from visenv.serve.planning import PlannedExpert, plan
from visenv.serve.replica import ExpertReplica
from visenv.serve.wire import Limits

APP = "visenv"
HOST, PORT = "127.0.0.1", 8000
INGRESS = "ingress"
_ONGOING = 64
"""Requests that one process of an expert may have in hand; what is more waits in front of it."""
_GRACE_SECONDS = 3.0
_WAIT_SECONDS = 0.1
_HEALTH_SECONDS = 2.0
_FREE_SECONDS = 3.0


def check_address(address: str, token: str | None) -> tuple[str, int]:
    """Host and port of an address to listen at.

    Args:
        address: ``host:port``, ``host``, or ``:port``; IPv6 in brackets.
        token: what clients have to show.

    Raises:
        InvalidData: if it is no such address, or others could reach it and nothing is asked of them.

    Example:
        >>> check_address("127.0.0.1:8000", None), check_address(":9000", None)
        (('127.0.0.1', 8000), ('127.0.0.1', 9000))
    """
    host, colon, port = address.rpartition(":") if not address.endswith("]") else (address, "", "")
    host, port = (host, port) if colon or address.endswith("]") else (port, "")
    bare = ":" in host and not address.startswith("[")
    host = host.strip("[]") or HOST
    if bare or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise InvalidData(f"Expected an address to listen at, such as {HOST}:{PORT}, but got {address!r}.")
    if not is_loopback(host) and not token:
        raise InvalidData(
            f"Expected a token for {address!r}, which other machines can reach: put one into the environment variable "
            "VISENV_TOKEN or a file (--token-file), the same for clients; or listen at 127.0.0.1."
        )
    return host, int(port or PORT)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Serving:
    """Experts that are being served. Made by ``start``; ends with its block, or with ``stop``.

    Attributes:
        address: for ``experts=``.
        app: the name of the application, for ``experts="ray://APP"``.
    """

    def __init__(self, host: str, port: int, app: str, planned: Sequence[PlannedExpert], owns_ray: bool) -> None:
        shown = f"[{host}]" if ":" in host else host
        self.address, self.app = f"http://{shown}:{port}{_route(app).rstrip('/')}", app
        self._planned, self._owns_ray, self._stopped = tuple(planned), owns_ray, False

    def describe(self) -> dict[str, Any]:
        """What runs where, as JSON values."""
        from ray import serve

        experts = []
        for planned in self._planned:
            handle = serve.get_deployment_handle(planned.key, self.app)
            replicas = handle.broadcast("describe").results(timeout_s=60.0)
            first = replicas[0]
            experts.append(
                {
                    **{name: first[name] for name in ("key", "name", "fingerprint", "capabilities", "max_batch")},
                    "num_cpus": planned.options.num_cpus,
                    "num_gpus": planned.options.num_gpus,
                    "autoscaling": None if planned.options.autoscaling is None else dict(planned.options.autoscaling),
                    "replicas": [{"host": each["host"], "pid": each["pid"]} for each in replicas],
                }
            )
        return {"address": self.address, "app": self.app, "ray": ray_address(), "experts": experts}

    def stop(self) -> None:
        """End the experts; and Ray, if it was started for them. Further calls change nothing."""
        if self._stopped:
            return
        self._stopped = True
        from ray import serve

        ray = import_ray()
        with contextlib.suppress(Exception) if self._owns_ray else contextlib.nullcontext():
            serve.delete(self.app)
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def start(
    experts: str | Path | Expert | Iterable[Expert],
    address: str = f"{HOST}:{PORT}",
    *,
    token: str | None = None,
    ray: str = LOCAL,
    app: str = APP,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    timeout: float = 120.0,
    store_bytes: int = STORE_BYTES,
    ingresses: int = 1,
    **options: Any,
) -> Serving:
    """Serve experts; returns once all of them are ready.

    Args:
        experts: the name of a registered set or preset, a preset file, an expert, or several.
        address: where to listen, ``host:port``. One that other machines can reach needs a token.
        token: what clients have to show.
        ray: ``"local"`` to start a Ray for them, ``"auto"`` for the one of this machine, or ``"host:port"``.
        app: the name of the application on Ray Serve.
        limits: of messages.
        timeout: the longest that a request may take, in seconds; an expert that takes longer for a batch is replaced.
        store_bytes: what is remembered of pixels that were sent.
        ingresses: how many processes take requests in and hand them on.
        **options: of ``ServeOptions``, for every expert; they go before what a preset says.

    Raises:
        InvalidData: if an option is out of range, the experts read the truth, they need more than there is, the address
            is taken, or they do not start.
        MissingDependency: if Ray Serve is not installed.
    """
    host, port = check_address(address, token)
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token):
        raise InvalidData("Expected a token of printable ASCII characters, without spaces around it.")
    planned = plan(experts, **options)
    import_serve()
    ours = join(ray)
    try:
        if ours:
            _check_port(host, port)
        _check_resources(planned)
        _deploy(planned, app, host, port, token, limits, timeout, store_bytes, ingresses)
    except BaseException:
        if ours:
            import_ray().shutdown()
        raise
    return Serving(host, port, app, planned, ours)


def import_serve() -> Any:
    """The package ``ray.serve``.

    Raises:
        MissingDependency: if it is not installed.
    """
    import_ray()
    # Its controller would say every few seconds what has not changed.
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    try:
        import logging

        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it says what we say ourselves
    except ImportError as error:
        raise MissingDependency('Serving experts needs Ray Serve: pip install "visenv[ray]"') from error
    return serve


def ray_address() -> str:
    """The address of the Ray that this process is connected to, for ``RAY_ADDRESS``."""
    return str(import_ray().get_runtime_context().gcs_address)


def _route(app: str) -> str:
    """What stands before the paths of an application; nothing for the one that is usual."""
    return "/" if app == APP else f"/{app}"


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidData(f"Cannot listen at {host}:{port}: {error.strerror}. Name another --address.") from error


def _check_listening(host: str, port: int) -> None:
    """Make sure that a Ray Serve that ran already listens where it should: it stays as it is."""
    from ray.serve import context

    there = cast(Any, context)._get_global_client().http_config
    if (there.host, there.port) != (host, port):
        raise InvalidData(
            f"Expected to listen at {host}:{port}, but the Ray Serve of this Ray listens at {there.host}:{there.port} "
            "already: name that --address (one that other machines can reach needs a token), or another Ray."
        )


def _check_resources(planned: Sequence[PlannedExpert]) -> None:
    """Make sure that all experts can be placed: Ray would wait for machines to come."""
    ray = import_ray()
    all_of_it, end = ray.cluster_resources(), time.monotonic() + _FREE_SECONDS
    for name, option in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        needed = sum(getattr(each.options, option) * each.options.first_replicas for each in planned) - 1e-9
        free = ray.available_resources().get(name, 0)
        # What others have just given back is free a moment later.
        while free < needed <= all_of_it.get(name, 0) and time.monotonic() < end:
            time.sleep(0.2)
            free = ray.available_resources().get(name, 0)
        if free < needed:
            raise InvalidData(
                f"Expected {needed:g} {name}s for {', '.join(each.key for each in planned)}, but this Ray has "
                f"{free:g} to give: take fewer replicas or parts of one (--replicas, --num-{name.lower()}s, 'serve' in "
                "the preset), or join a larger Ray."
            )


def _deploy(
    planned: Sequence[PlannedExpert],
    app: str,
    host: str,
    port: int,
    token: str | None,
    limits: Limits,
    timeout: float,
    store_bytes: int,
    ingresses: int,
) -> None:
    from ray import serve

    serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
    _check_listening(host, port)
    bound = {each.key: _deployment(each, limits, timeout) for each in planned}
    ingress: Any = cast(Any, serve.deployment(Ingress)).options(
        name=INGRESS,
        num_replicas=ingresses,
        max_ongoing_requests=4 * _ONGOING,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=_GRACE_SECONDS,
        graceful_shutdown_wait_loop_s=_WAIT_SECONDS,
        health_check_period_s=_HEALTH_SECONDS,
    )
    bound_ingress = ingress.bind(bound, token, limits, timeout, store_bytes)
    try:
        serve.run(bound_ingress, name=app, route_prefix=_route(app), blocking=False)
    except RuntimeError as error:
        why = _why_not_deployed(app) or " ".join(str(error).split())
        serve.delete(app)
        raise InvalidData(f"The experts do not start: {why:.1500}") from error


def _why_not_deployed(app: str) -> str:
    """The last line of what an expert raised when it was made."""
    from ray import serve

    there = serve.status().applications.get(app)
    messages = [deployment.message for deployment in there.deployments.values()] if there else []
    lines = [line for message in messages for line in message.strip().splitlines() if line.strip()]
    return " ".join(lines[-1].split()) if lines else ""


def _deployment(planned: PlannedExpert, limits: Limits, timeout: float) -> Any:
    from ray import serve

    options = planned.options
    scaling: dict[str, Any] = {"num_replicas": options.replicas}
    if options.autoscaling is not None:
        scaling = {"autoscaling_config": dict(options.autoscaling)}
    deployment: Any = cast(Any, serve.deployment(ExpertReplica)).options(
        name=planned.key,
        max_ongoing_requests=_ONGOING,
        max_constructor_retry_count=1,
        ray_actor_options={"num_cpus": options.num_cpus, "num_gpus": options.num_gpus},
        graceful_shutdown_timeout_s=_GRACE_SECONDS,
        graceful_shutdown_wait_loop_s=_WAIT_SECONDS,
        health_check_period_s=_HEALTH_SECONDS,
        health_check_timeout_s=max(10.0, timeout),
        **scaling,
    )
    return deployment.bind(planned, limits, timeout)


def wait_until_stopped(serving: Serving, every: float = 0.5) -> None:
    """Do nothing until somebody interrupts.

    Raises:
        VisenvError: if the Ray under the experts has gone.
    """
    ray = import_ray()
    while True:
        time.sleep(every)
        if not ray.is_initialized():
            raise VisenvError(f"The Ray that served {serving.address} has gone.")
