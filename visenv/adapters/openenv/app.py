"""The server, its command line, and the manifest of a package that serves an environment."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, Literal

import uvicorn
import yaml
from fastapi import FastAPI
from openenv.core.env_server import create_fastapi_app
from openenv.core.env_server.types import ConcurrencyConfig

import visenv
from visenv.adapters.making import Shared
from visenv.adapters.openenv.environment import Backend, VisionEnvironment
from visenv.adapters.openenv.models import VisionAction, VisionObservation, VisionState
from visenv.errors import InvalidData

SESSIONS = 64
"""How many clients may play at once, unless said otherwise."""
IDLE = 3600.0
"""Seconds after which the session of a client that says nothing is given to others, unless said otherwise."""


def make_app(
    env_id: str,
    *,
    sessions: int = SESSIONS,
    idle: float | None = IDLE,
    image_format: Literal["png", "jpeg"] = "png",
    **keywords: Any,
) -> FastAPI:
    """The server, for uvicorn or any other ASGI server, with one worker process.

    Args:
        env_id: as ``gym.make`` takes it.
        sessions: how many clients may play at once; one more is refused.
        idle: seconds after which a session that says nothing is given up; None for never.
        image_format: of pictures that are sent: ``"png"`` keeps every pixel, ``"jpeg"`` is smaller.
        **keywords: of the environment.

    Raises:
        VisenvError: as ``gym.make``: data, weights and devices are checked now.
    """
    if isinstance(sessions, bool) or not isinstance(sessions, int) or sessions < 1:
        raise InvalidData(f"Expected sessions to be a whole number of at least 1, but got {sessions!r}.")
    if idle is not None and not idle > 0:
        raise InvalidData(f"Expected idle to be a number of seconds above 0, but got {idle!r}.")
    backend = Backend(env_id, keywords, image_format)
    limits = ConcurrencyConfig(max_concurrent_envs=sessions, session_timeout=idle)
    app: FastAPI = create_fastapi_app(
        partial(VisionEnvironment, backend),
        VisionAction,
        VisionObservation,
        concurrency_config=limits,
        env_name=env_id.rpartition("/")[2],
        state_cls=VisionState,
    )
    app.title = f"{env_id} for OpenEnv"
    app.router.on_shutdown.append(backend.close)
    return app


def manifest(env_id: str, *, app: str = "server.app:app", port: int = 8000, **keywords: Any) -> str:
    """The ``openenv.yaml`` of a package that serves an environment.

    Args:
        env_id: as ``gym.make`` takes it.
        app: where the package has its ``make_app(…)``.
        port: that it listens on.
        **keywords: of the environment.

    Returns:
        YAML, with the reward's bounds, the tools and the number of samples as they are.

    Raises:
        InvalidData: if the reward has no bounds, which OpenEnv wants to be told.
        VisenvError: as ``gym.make``.
    """
    shared = Shared(env_id, {"obs": "features", **keywords})
    config, dataset = shared.first.config, shared.first.dataset
    low, high = (float(bound) for bound in config.reward.bounds)
    if not -1e9 < low < high < 1e9:
        raise InvalidData(f"Expected a reward with finite bounds, but those of {env_id} are {low} and {high}.")
    capabilities: dict[str, Any] = {
        "verifier": {"kind": "reward_channel"},
        "task_api": dataset.size is not None,
        "declared_tools": [spec.name for spec in shared.specs],
    }
    if dataset.size is not None:
        capabilities["declared_task_count"] = {dataset.split: dataset.size}
    return yaml.safe_dump(
        {
            "spec_version": 1,
            "name": env_id.rpartition("/")[2].lower(),
            "version": visenv.__version__,
            "type": "space",
            "runtime": "fastapi",
            "app": app,
            "port": port,
            "validation": {
                "reward": {"range": [low, high], "oracle_tolerance": 0.0, "floor_margin": (high - low) / 10},
                "resources": {"cpu": 2.0, "memory_mb": 4096, "disk_mb": 2048, "episode_timeout_s": 300.0},
                "capabilities": capabilities,
                "types": {"tags": ["vision", "tool-use"]},
            },
        },
        sort_keys=False,
    )


def main() -> None:
    """Serve an environment to the clients of OpenEnv, or write the manifest of a package that does."""
    parser = argparse.ArgumentParser(
        prog="python -m visenv.adapters.openenv", description="Serve an environment for OpenEnv."
    )
    parser.add_argument("env_id", help="such as VisHarness/RefSeg-v0")
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--split", default="train")
    parser.add_argument("--experts", default="classical")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="how many clients may play at once")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="write openenv.yaml there, and serve nothing")
    args = parser.parse_args()
    keywords = {"dataset": args.dataset, "split": args.split, "experts": args.experts}
    if args.manifest:
        args.manifest.write_text(manifest(args.env_id, port=args.port, **keywords), encoding="utf-8")
        return
    uvicorn.run(make_app(args.env_id, sessions=args.sessions, **keywords), host=args.host, port=args.port)
