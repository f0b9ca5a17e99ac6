"""What all tests share: reproducible property tests, one thread for each process, and one Ray."""

import gc
import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "visenv", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("visenv")

ON_RAY = ("rollout_ray", "serve", "serve_ray_faults")
"""Which tests share one Ray: what stands between ``test_`` and ``.py``."""


def pytest_configure():
    """One thread for each process, and each program that a test starts: more of them would wait spinning."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # read by numpy and torch at import
        os.environ.setdefault(name, "1")
    import cv2

    cv2.setNumThreads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Where tests are run in several processes, give each whole files, whose fixtures are then made once."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "on Ray" if Path(file).stem.removeprefix("test_") in ON_RAY else file

    return Files(config, log)


def pytest_collection_finish():
    """Nothing that the test modules have imported is garbage: it need not be looked through again and again."""
    gc.collect()
    gc.freeze()


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
