"""Episodes spread over a real Ray: the same bytes as in one process, whatever happens to the processes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import gymnasium as gym
import pytest
from stubs import BrightExpert
from typer.testing import CliRunner

from visenv.cli import app
from visenv.errors import InvalidData, VisenvError
from visenv.policies import make_policy, rollout
from visenv.policies.distributed import rollout_on_ray
from visenv.wrappers import RecordTrajectories
from visenv.wrappers.recording import RunRecorder

IDS = ("VisHarness/ReasonSeg-v0", "VisHarness/Mixed-v0")


class Mortal(BrightExpert):
    """Kills its process where a file says so: the first time that it is asked, or every time."""

    name = "mortal"

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)

    def run(self, requests):
        (self.folder / f"pid-{os.getpid()}").touch()
        for order in ("once", "always"):
            if (self.folder / order).exists():
                if order == "once":
                    (self.folder / order).unlink()
                os._exit(7)
        time.sleep(0.05)
        return super().run(requests)


def made(name, policy, **keywords):
    return gym.make(name, split="val", **keywords), make_policy(policy)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def alone(folder, make, episodes, seed=3, pictures=True):
    """What one process writes."""
    env, policy = make()
    recorded = RecordTrajectories(env, folder, {"seed": seed}, page=None, pictures=pictures)
    assert len(list(rollout(recorded, policy, episodes=episodes, seed=seed))) == episodes
    recorded.close()
    return files(folder)


def spread(folder, make, episodes, seed=3, pictures=True, workers=2, during=None):
    """What several processes write."""
    env, _ = make()
    writer = RecordTrajectories(env, folder, {"seed": seed}, page=None, pictures=pictures)
    parcels = rollout_on_ray(
        make, episodes=episodes, seed=seed, size=env.unwrapped.dataset.size, workers=workers, pictures=pictures
    )
    for parcel in parcels:
        writer.recorder.add(parcel)
        if during is not None:
            during(parcel.index)
    writer.close()
    return files(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_several_processes_write_what_one_writes(local_ray, tmp_path, name):
    make = partial(made, name, "scripted", experts="oracle")
    one, several = alone(tmp_path / "one", make, 7), spread(tmp_path / "several", make, 7)
    assert len([path for path in one if path.suffix == ".jpg"]) > 7
    assert one.keys() == several.keys()
    assert [path for path in one if one[path] != several[path]] == []


@pytest.mark.slow
def test_a_policy_of_chance_makes_the_same_choices(local_ray, tmp_path):
    make = partial(made, IDS[0], "random", experts="oracle")
    assert alone(tmp_path / "one", make, 5, pictures=False) == spread(tmp_path / "several", make, 5, pictures=False)


@pytest.mark.slow
def test_an_episode_whose_process_dies_is_run_again(local_ray, tmp_path):
    (tmp_path / "orders").mkdir()
    make = partial(made, IDS[0], "scripted", experts=Mortal(tmp_path / "orders"))
    one = alone(tmp_path / "one", make, 6)
    (tmp_path / "orders" / "once").touch()
    several = spread(tmp_path / "several", make, 6)
    assert not (tmp_path / "orders" / "once").exists()
    assert one == several


def test_workers_killed_from_outside_lose_no_episode(local_ray, tmp_path):
    orders = tmp_path / "orders"
    orders.mkdir()
    make = partial(made, IDS[0], "scripted", experts=Mortal(orders))
    one = alone(tmp_path / "one", make, 12, pictures=False)
    killed = []

    def kill(index):
        if index in (1, 5):
            pids = {int(path.name[4:]) for path in orders.glob("pid-*")} - {os.getpid(), *killed}
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    for path in orders.glob("pid-*"):
        path.unlink()
    several = spread(tmp_path / "several", make, 12, pictures=False, during=kill)
    assert len(killed) >= 2
    assert one == several


@pytest.mark.slow
def test_an_episode_that_kills_every_process_ends_the_run(local_ray, tmp_path):
    (tmp_path / "always").touch()
    make = partial(made, IDS[0], "single", experts=Mortal(tmp_path))
    with pytest.raises(VisenvError, match="3 processes were lost, all over episode 0"):
        list(rollout_on_ray(make, episodes=1, seed=0, size=None, workers=1))


@pytest.mark.slow
def test_what_is_wrong_with_an_environment_is_said(local_ray):
    make = partial(made, IDS[0], "single", experts="orcle")
    with pytest.raises(VisenvError, match="oracle"):
        list(rollout_on_ray(make, episodes=2, seed=0, size=None, workers=2))


@pytest.mark.slow
def test_no_more_is_finished_ahead_than_needed_and_a_run_that_is_left_ends(local_ray):
    make = partial(made, IDS[0], "single", experts="oracle")
    parcels = rollout_on_ray(make, episodes=500, seed=0, size=None, workers=1, pictures=False)
    assert [next(parcels).index for _ in range(2)] == [0, 1]
    parcels.close()
    end = time.monotonic() + 20
    while local_ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert local_ray.available_resources()["CPU"] == 2


def test_numbers_out_of_range_are_errors():
    for wrong in ({"episodes": 0}, {"workers": 0}, {"seed": -1}):
        with pytest.raises(InvalidData, match="Expected"):
            list(rollout_on_ray(made, **{"episodes": 1, "seed": 0, "size": None, "workers": 1, **wrong}))


def test_parcels_are_taken_in_order_only(tmp_path):
    make = partial(made, IDS[0], "single", experts="oracle")
    env, policy = make()
    recorded = RecordTrajectories(env, tmp_path / "part", page=None, first=4)
    list(rollout(recorded, policy, episodes=1, seed=0))
    parcel = recorded.recorder.parcel()
    assert parcel.index == 4
    with pytest.raises(InvalidData, match="Expected episode 0"):
        RunRecorder(tmp_path / "whole").add(parcel)


def test_the_command_writes_what_it_writes_in_one_process(local_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["rollout", "RefSeg-v0", "-n", "5", "--experts", "oracle", "--policy", "single", "--json", "--out"]
    runner = CliRunner()
    for more in (["one"], ["several", "--ray", "local", "--workers", "2"]):
        done = runner.invoke(app, [*words, *more])
        assert done.exit_code == 0, done.stderr
    one, several = files("one"), files("several")
    assert one.keys() == several.keys()
    assert [path for path in one if one[path] != several[path]] == []


def test_workers_without_a_ray_are_a_mistake(tmp_path):
    done = CliRunner().invoke(app, ["rollout", "RefSeg-v0", "--workers", "2", "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "--ray" in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:9", pytest.param("nowhere", marks=pytest.mark.slow)])
def test_a_ray_that_is_not_there_is_one_line(tmp_path, address):
    command = [sys.executable, "-m", "visenv", "rollout", "RefSeg-v0", "--ray", address, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2, done.stderr
    assert f"Error: No Ray can be joined at {address!r}" in done.stderr
    assert "Traceback" not in done.stderr
