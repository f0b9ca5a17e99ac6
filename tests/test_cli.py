"""The command line, through its own entry points."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from typer.testing import CliRunner

import visenv
from visenv.builtin import ENVIRONMENTS
from visenv.cli import app

QUICK = ["--episodes", "2", "--experts", "oracle", "--policy", "single"]


@pytest.fixture
def cli(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def test_list_names_everything(cli):
    shown = cli("list")
    listed = json.loads(cli("list", "--json").stdout)
    assert [entry["name"] for entry in listed["environments"]] == list(ENVIRONMENTS)
    assert {entry["name"] for entry in listed["policies"]} >= {"random", "single", "scripted", "oracle"}
    assert {entry["name"] for entry in listed["datasets"]} >= {"scenes", "photos"}
    for kind in ("environments", "datasets", "experts", "toolsets", "rewards", "policies"):
        for entry in listed[kind]:
            assert entry["name"] in shown.stdout
            assert entry["summary"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_describe_is_a_page(cli, name):
    shown = cli("describe", name)
    assert shown.exit_code == 0, shown.stderr
    page = json.loads(cli("describe", name, "--json", "--toolset", "full").stdout)
    assert page["id"] == name
    assert [tool["name"] for tool in page["tools"]][-1] == "RecallImage"
    assert page["tools"][0]["parameters"]["required"] == ["images", "phrase"]
    env = gym.make(name, experts="oracle").unwrapped
    assert page["reward"]["name"] == env.config.reward.name
    assert page["reward"]["bounds"] == [bound if np.isfinite(bound) else None for bound in env.config.reward.bounds]
    for metric in page["metrics"]:
        assert metric["name"] in shown.stdout
    assert "Version History" in shown.stdout


def test_rollout_writes_a_run_and_prints_one_document(cli, tmp_path):
    done = cli("rollout", "reasonseg-v0", *QUICK, "--out", tmp_path / "run", "--json", "--seed", "5")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["episodes"] == 2
    assert document["metrics"]["gIoU"] == 1.0
    assert document["settings"]["experts"] == "oracle"
    assert document["settings"]["seed"] == 5
    assert Path(document["page"]).is_file()
    assert len((tmp_path / "run" / "trajectories.jsonl").read_text().splitlines()) == 2
    assert done.stdout.endswith("}\n")
    assert "single" in done.stderr


def test_rollout_for_people_says_what_came_of_it(cli, tmp_path):
    done = cli("rollout", "RefCount-v0", *QUICK, "--memory", "keep_all", "--toolset", "basic")
    assert done.exit_code == 0, done.stderr
    for shown in ("MAE", "2 episodes ended: 2 answer", "archiving saved 0 more", "index.html"):
        assert shown in done.stdout
    again = cli("rollout", "RefCount-v0", *QUICK)
    assert again.exit_code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_the_oracle_policy_brings_the_oracle_experts(cli, tmp_path):
    done = cli("rollout", "RefSeg-v0", "--policy", "oracle", "-n", "1", "--out", tmp_path / "a", "--json")
    assert json.loads(done.stdout)["settings"]["experts"] == "oracle"
    assert json.loads(done.stdout)["metrics"]["gIoU"] == 1.0
    named = ("--policy", "oracle", "--experts", "noisy")
    done = cli("rollout", "RefSeg-v0", *named, "-n", "1", "--out", tmp_path / "b", "--json")
    assert json.loads(done.stdout)["settings"]["experts"] == "noisy"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("describe", "VisHarness/ReasonSeq-v0"), "Did you mean 'VisHarness/ReasonSeg-v0'"),
        (("rollout", "DensDet-v0"), "Did you mean 'VisHarness/DenseDet-v0'"),
        (("rollout", "RefSeg-v0", "--policy", "scriptd"), "Did you mean 'scripted'"),
        (("rollout", "RefSeg-v0", "--dataset", "scene"), "Did you mean 'scenes'"),
        (("rollout", "RefSeg-v0", "--experts", "clasical"), "Did you mean 'classical'"),
        (("rollout", "RefSeg-v0", "--reward", "nothing"), "Unknown reward"),
        (("rollout", "RefSeg-v0", "--toolset", "ful"), "Did you mean 'full'"),
        (("rollout", "RefSeg-v0", "--memory", "last_k"), "last_k:K"),
        (("rollout", "RefSeg-v0", "--split", "nowhere"), "nowhere"),
        (("rollout", "RefSeg-v0", "--difficulty", "9"), "9"),
        (("rollout", "RefSeg-v0", "--action-mode", "mime"), "mime"),
        (("rollout", "CartPole-v1"), "CartPole"),
        (("view", "nowhere"), "trajectories.jsonl"),
        (("bench", "nothing"), "Unknown benchmark"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(cli, words, hint):
    done = cli(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("Error: ")
    assert hint in done.stderr


def test_wrong_options_are_exit_code_2(cli):
    assert cli("rollout", "RefSeg-v0", "--episodes", "0").exit_code == 2
    assert cli("rollout", "RefSeg-v0", "--no-such-option").exit_code == 2
    assert cli("no-such-command").exit_code == 2


def test_a_run_is_not_overwritten_unless_asked(cli, tmp_path):
    run = ("rollout", "RefSeg-v0", *QUICK, "--out", tmp_path / "run")
    assert cli(*run).exit_code == 0
    before = (tmp_path / "run" / "trajectories.jsonl").read_bytes()
    refused = cli(*run, "--seed", "9")
    assert refused.exit_code == 2
    assert (tmp_path / "run" / "trajectories.jsonl").read_bytes() == before
    assert cli(*run, "--seed", "9", "--overwrite").exit_code == 0
    assert (tmp_path / "run" / "trajectories.jsonl").read_bytes() != before


def test_interrupting_keeps_what_has_ended(cli, tmp_path, monkeypatch):
    from visenv.policies.single import SingleCallPolicy

    plan, begun = SingleCallPolicy.plan, []

    def interrupted(self, episode):
        begun.append(episode)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return plan(self, episode)

    monkeypatch.setattr(SingleCallPolicy, "plan", interrupted)
    settings = ("--policy", "single", "--experts", "oracle", "--episodes", "9")
    done = cli("rollout", "RefSeg-v0", *settings, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 130
    assert json.loads(done.stdout)["interrupted"] is True
    assert json.loads(done.stdout)["episodes"] == 2
    assert len((tmp_path / "run" / "trajectories.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "index.html").is_file()


def test_view_builds_the_page_anew(cli, tmp_path):
    cli("rollout", "RefSeg-v0", *QUICK, "--out", tmp_path / "run")
    page = tmp_path / "run" / "index.html"
    before = page.read_bytes()
    page.unlink()
    done = cli("view", tmp_path / "run", "--json")
    assert json.loads(done.stdout) == {"page": str(page), "bytes": len(before)}
    assert page.read_bytes() == before
    assert cli("view", tmp_path / "run").stdout.strip() == str(page)


def test_doctor_says_what_is_there(cli):
    done = cli("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["python"]["detail"].startswith(".".join(map(str, sys.version_info[:3])))
    assert found["gymnasium"]["status"] == "ok"
    assert "cv2" in found
    assert "extra: photos" in found
    healthy = not any(finding["status"] == "problem" for finding in found.values())
    assert json.loads(done.stdout)["healthy"] is healthy
    assert done.exit_code == (0 if healthy else 1)
    assert "gymnasium" in cli("doctor").stdout


def test_doctor_reports_a_missing_package(cli, monkeypatch):
    from visenv.cli import examination

    monkeypatch.setattr(examination, "requirements", lambda: (["no-such-package-of-ours"], {"toys": ["nor-this-one"]}))
    done = cli("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.exit_code == 1
    assert found["no-such-package-of-ours"]["status"] == "problem"
    assert found["extra: toys"]["status"] == "missing"
    assert 'pip install "visenv[toys]"' in found["extra: toys"]["detail"]
    assert "visenv[toys]" in "".join(cli("doctor").stdout.split()).replace("│", "")


def test_doctor_says_what_fetches_the_weights_of_presets(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = {finding["name"]: finding for finding in json.loads(cli("doctor", "--json").stdout)["findings"]}
    world, published = found["preset: yolo-world"], found["preset: visharness"]
    assert (world["status"], published["status"]) == ("missing", "missing")
    assert "hf download facebook/sam2.1-hiera-small" in world["detail"]
    assert "curl -L -o yolov8x-worldv2.pt https://github.com/ultralytics/" in world["detail"]
    assert "curl -L -o RealESRGAN_x4plus.pth https://github.com/xinntao/Real-ESRGAN/" in published["detail"]


def test_doctor_says_that_a_preset_is_complete(cli, monkeypatch, tmp_path):
    import torch
    from spandrel.architectures.Compact import Compact

    from visenv.experts import presets

    weights = tmp_path / "RealESRGAN_x4plus.pth"
    torch.save(Compact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=2).state_dict(), weights)
    mine = presets.load_preset({"experts": [{"expert": "upscale", "model": str(weights)}]})
    monkeypatch.setattr(presets, "preset_names", lambda: ["mine"])
    monkeypatch.setattr(presets, "load_preset", lambda name: mine)
    findings = json.loads(cli("doctor", "--json").stdout)["findings"]
    (found,) = (finding for finding in findings if finding["name"].startswith("preset: "))
    assert (found["status"], found["detail"]) == ("ok", f"upscale ({weights})")


def test_doctor_says_how_to_mend_opencv(cli, monkeypatch):
    from visenv.cli import examination

    builds = {"opencv-python", "opencv-python-headless"}
    monkeypatch.setattr(examination, "_installed", lambda name: name in builds)
    done = cli("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.exit_code == 1
    assert found["cv2"]["status"] == "problem"
    assert "opencv-python and opencv-python-headless write into one folder" in found["cv2"]["detail"]
    assert "pip uninstall -y ultralytics" in found["cv2"]["detail"]
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = {finding["name"]: finding for finding in json.loads(cli("doctor", "--json").stdout)["findings"]}
    assert "need no libGL" in found["cv2"]["detail"]


def test_bench_runs_one_benchmark(cli):
    done = cli("bench", "step", "--quick", "--repeats", "1", "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 8
    assert all(row["ours_s"] > 0 and row["ratio"] == row["alternative_s"] / row["ours_s"] for row in rows)


def test_bench_outside_of_a_checkout_says_so(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(visenv, "__file__", str(tmp_path / "site-packages" / "visenv" / "__init__.py"))
    done = cli("bench")
    assert done.exit_code == 2
    assert "clone the repository" in done.stderr


def test_help_and_version(cli):
    assert visenv.__version__ in cli("--version").stdout
    for command in ("list", "describe", "rollout", "view", "bench", "doctor"):
        assert command in cli("--help").stdout
        assert cli(command, "--help").exit_code == 0


def test_two_processes_write_the_same_bytes(tmp_path):
    root = Path(visenv.__file__).resolve().parent.parent
    written = []
    for name, hash_seed in (("one", "1"), ("two", "2")):
        environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "visenv", "rollout", "GRefSeg-v0", "--policy", "scripted", "--difficulty", "2"]
        options = ["-n", "3", "--seed", "11", "--out", name, "--json"]
        done = subprocess.run(
            command + options, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        assert json.loads(done.stdout)["episodes"] == 3
        run = tmp_path / name
        written.append({str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()})
    assert written[0] == written[1]
    assert {"trajectories.jsonl", "summary.json", "index.html"} <= written[0].keys()
