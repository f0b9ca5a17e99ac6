"""These tests share the stand-ins of ``tests/`` and run in environments of their own: see ``noxfile.py``."""

import json

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "visenv", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("visenv")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """verl: a folder with a tiny model."""
    from verl_parts import make_model, register_env

    register_env()
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def write_loops(tmp_path_factory):
    """verl: writes a file of agent loops, and gives the override that names it."""
    from verl_parts import SQUARES

    folder = tmp_path_factory.mktemp("loops")

    def write(name, **settings):
        path = folder / f"{name}.yaml"
        entry = {"name": "visenv", "_target_": "visenv.adapters.verl.loop.VisenvAgentLoop", "env_id": SQUARES}
        path.write_text(json.dumps([{**entry, **settings}]), "utf-8")
        return f"actor_rollout_ref.rollout.agent.agent_loop_config_path={path}"

    return write


@pytest.fixture
def loops(write_loops):
    """verl: the same, for the test at hand."""
    return lambda **settings: write_loops("test", **settings)
