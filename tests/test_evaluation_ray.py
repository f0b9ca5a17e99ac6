"""Tasks of Ray that share one evaluation."""

import os

import pytest

from visenv.evaluation import EvalConfig, Run, evaluate, score, work
from visenv.evaluation.running import begin


@pytest.mark.slow
def test_tasks_of_ray_share_a_folder(tmp_path):
    import ray

    config = EvalConfig("VisHarness/RefSeg-v0", "oracle", 40, env={"difficulty": 0})
    begin(config, tmp_path / "shared")
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    try:
        task = ray.remote(work)
        played = ray.get([task.remote(str(tmp_path / "shared")) for _ in range(2)], timeout=240)
    finally:
        ray.shutdown()
    assert sum(played) == 40
    assert Run(tmp_path / "shared").missing() == 0
    report = score(tmp_path / "shared")
    assert report["timing"]["processes"] == sum(count > 0 for count in played)
    evaluate(config, tmp_path / "alone")
    for name in ("trajectories.jsonl", "report.json"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
