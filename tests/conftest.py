"""What all tests share: reproducible property tests, one thread for small networks, and one Ray."""

import os
import socket

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "visenv", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("visenv")


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch on one thread: several slow a small network down where cores are few."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def local_ray():
    """A Ray on this machine with two processors, started when it is first needed."""
    from visenv.clusters import joined

    with joined("local", num_cpus=2) as ray:
        yield ray


@pytest.fixture(scope="session")
def serve_address(local_ray):
    """Where the Ray Serve of that Ray listens: one address for all of its applications."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch):
    if "VISENV_TOKEN" in os.environ:
        monkeypatch.delenv("VISENV_TOKEN")
