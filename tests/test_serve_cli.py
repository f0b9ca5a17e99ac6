"""``visenv serve``, as a process of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import gymnasium as gym
import pytest
from typer.testing import CliRunner

from visenv.cli import app
from visenv.errors import InvalidData
from visenv.policies import make_policy, rollout
from visenv.serve.client import connect
from visenv.serve.running import check_address

COMMAND = [sys.executable, "-m", "visenv", "serve"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(*arguments, cwd):
    """A process of ``visenv serve``, which is not there any more after the block."""
    command = [*COMMAND, *arguments, "--address", f"127.0.0.1:{free_port()}", "--json"]
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def document(process):
    """The JSON document that a process prints, which may go on after it."""
    text = ""
    for line in process.stdout:
        text += line
        try:
            return json.loads(text)
        except ValueError:
            continue
    raise AssertionError(f"{text}\n{process.stderr.read()}")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def test_serving_says_what_runs_where_and_stops_cleanly(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    command = [*COMMAND, "classical", "--address", f"127.0.0.1:{free_port()}", "--token-file", "token", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = document(process)
        (expert,) = said["experts"]
        assert expert["name"] == "classical"
        (replica,) = expert["replicas"]
        assert is_running(replica["pid"])
        with pytest.raises(InvalidData, match="token"):
            connect(said["address"])
        assert connect(said["address"], token="secret")[0].fingerprint == expert["fingerprint"]

        inside = subprocess.run(
            [sys.executable, "-c", "from visenv.serve.client import connect; print(connect('ray://visenv')[0].name)"],
            env={**os.environ, "RAY_ADDRESS": said["ray"]},
            capture_output=True,
            text=True,
        )
        assert inside.stdout == "classical\n", inside.stderr

        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert rest == ""
    assert "Traceback" not in errors
    end = time.monotonic() + 10
    while is_running(replica["pid"]) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(replica["pid"])


@pytest.mark.slow
def test_interrupting_it_stops_it_and_what_ran_against_it_ends(tmp_path):
    with served("classical", cwd=tmp_path) as process:
        address = document(process)["address"]
        env = gym.make("VisHarness/RefSeg-v0", experts=f"{address}?deadline=3", split="val")
        assert len(list(rollout(env, make_policy("scripted"), episodes=2, seed=0))) == 2
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    begun = time.monotonic()
    (end,) = rollout(env, make_policy("scripted"), episodes=1, seed=1)
    assert end.outcome.termination == "invalid"
    assert end.reward == 0
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("oracle",), "truth"),
        (("classicl",), "classical"),
        (("nowhere.yaml",), "no such file"),
        (("classical", "--address", "0.0.0.0:8000"), "VISENV_TOKEN"),
        (("classical", "--address", "127.0.0.1:eighty"), "address"),
        (("classical", "--min-replicas", "1"), "--max-replicas"),
        (("classical", "--token-file", "nowhere"), "nowhere"),
        (("classical", "--min-replicas", "3", "--max-replicas", "2"), "min_replicas"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert signal.getsignal(signal.SIGTERM) is before
    assert done.exit_code == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "192.168.1.5", "example.org:80", "[::]:8000", "::1:9"])
def test_others_may_reach_it_only_with_a_token(address):
    with pytest.raises(InvalidData, match="token|address"):
        check_address(address, None)


def test_addresses_to_listen_at():
    assert check_address("[::1]:9000", None) == ("::1", 9000)
    assert check_address("[::1]", None) == ("::1", 8000)
    assert check_address("localhost", None) == ("localhost", 8000)
    assert check_address("0.0.0.0:80", "secret") == ("0.0.0.0", 80)
    for odd in ("127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1"):
        with pytest.raises(InvalidData, match="address to listen at"):
            check_address(odd, None)
