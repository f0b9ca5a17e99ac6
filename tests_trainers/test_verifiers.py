"""verifiers: its runner plays against an endpoint on this machine, and comes to what the same turns come to here."""

import asyncio
import base64
import doctest
import json
import operator
import os
import random
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
import verifiers.v1 as vf
from chat_server import query, serving, solving
from stubs import BrightExpert, BrokenExpert
from verifiers.v1.cli.eval.runner import run_eval
from verifiers.v1.clients import ModelContext
from verifiers.v1.configs.cli.eval import EvalConfig
from verifiers.v1.serve import EnvClient, EnvServer
from verifiers.v1.utils.loaders import load_environment, load_taskset

import visenv.adapters.verifiers as adapter
from visenv import registration
from visenv.adapters.making import make_env
from visenv.errors import InvalidData, VisenvError
from visenv.images import load_image
from visenv.protocol.exchange import read_reply

ROOT = Path(__file__).resolve().parent.parent
PAGE, EXAMPLE = ROOT / "docs" / "trainers" / "verifiers.md", ROOT / "examples" / "verifiers_eval.py"
PLUGIN, ENV_ID = "verifiers_eval", "VisHarness/RefSeg-v0"
KEYWORDS = {"split": "val", "experts": "oracle"}


@pytest.fixture(autouse=True)
def _plugin(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    monkeypatch.setenv("PRIME_RUNS_MODE", "disabled")


def completing(choose, pause=0.0):
    """What a server does that answers each request with the message that ``choose`` picks from its body."""

    def act(handler, body):
        time.sleep(random.uniform(0, pause))
        message, reason = choose(body)
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
        usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
        head = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
        handler.send(200, {**head, "choices": [choice], "usage": usage})

    return act


def turns_said(body):
    return sum(message["role"] == "assistant" for message in body["messages"])


def solve(body):
    message = solving(body)
    for call in message.get("tool_calls") or ():
        call["id"] = f"call-of-turn-{turns_said(body)}"
    return message, "tool_calls" if message.get("tool_calls") else "stop"


def call(name, call_id, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


def calling(*calls):
    return {"content": None, "tool_calls": list(calls)}, "tool_calls"


def stumble(body):
    """A model that does much wrong, and each sample another thing, before it solves the task."""
    number, phrase = turns_said(body), query(body)
    merge = call("MergeBoxMask", f"m{number}", images=["img_0"])
    broken = {"id": "b", "type": "function", "function": {"name": "MergeBoxMask", "arguments": '{"images": ['}}
    mishaps = [
        calling(merge, call("Nothing", "n")),
        calling(call("Nothing", "n", x=1)),
        calling(broken),
        ({"content": "I think and think and"}, "length"),
        calling(call("PhraseToBoxMask", "p", images=["img_7"], phrase="x")),
        ({"content": ""}, "stop"),
    ]
    steps = [
        *(mishaps * 2)[len(phrase) % 6 :][:3],
        calling(call("SplitImageIntoPatches", "s", patch_configs={"img_0": 160})),
        calling(call("PhraseToBoxMask", "f", images=["img_0"], phrase=phrase)),
        calling(merge),
        ({"content": "It is marked."}, "stop"),
    ]
    return steps[number]


def config(server, out, *, choose=None, keywords=None, limit=4, rollouts=1, **settings):
    taskset = {"id": PLUGIN, "env": ENV_ID, "keywords": {**KEYWORDS, **(keywords or {})}}
    env = settings.pop("env", {})
    return EvalConfig.model_validate(
        {
            "model": "tiny",
            "client": {"base_url": server.url, "api_key_var": "NO_SUCH_KEY"},
            "env": {"taskset": taskset | env.pop("taskset", {}), **env},
            "select": {"limit": limit},
            "num_rollouts": rollouts,
            "output_dir": str(out),
            "push": False,
            "rich": None,
            **settings,
        }
    )


def evaluated(server, out, **settings):
    return asyncio.run(asyncio.wait_for(run_eval(config(server, out, **settings)), 120))


def played_here(index, choose, native=True, turns=99, **keywords):
    """What the same answers come to in the environment alone."""
    mode = {"dialect": "openai"} if native else {"action_mode": "text"}
    env = make_env(ENV_ID, {**KEYWORDS, **mode, **keywords})
    env.reset(options={"index": index})
    task = {"content": [{"type": "text", "text": f"Task: {env.episode.query}\n"}]}
    body, reward = {"messages": [{"role": "system"}, {"role": "user", **task}]} | ({"tools": []} if native else {}), 0.0
    while not env.episode.done and env.episode.turns < turns:
        message, reason = choose(body)
        body["messages"].append({"role": "assistant"})
        action = read_reply(message, reason, native=native, dialect=env.episode.dialect)
        reward += env.step(action)[1]
    if not env.episode.done:
        reward += sum(env.episode.stop().values())
    return env, reward


def check(episodes, choose, **settings):
    assert all(episode.ok for episode in episodes), [episode.errors for episode in episodes]
    for episode in episodes:
        (trace,) = episode.traces
        env, reward = played_here(trace.task.data.index, choose, **settings)
        assert trace.reward == pytest.approx(reward, abs=1e-12)
        assert trace.metrics == pytest.approx(env.metrics())
        kept = trace.info["visenv"]
        assert (kept["sample_id"], kept["turns"]) == (env.episode.sample_id, env.episode.turns)
        assert kept["termination"] == env.episode.outcome.termination


@pytest.mark.parametrize("choose", [solve, stumble])
def test_an_evaluation_comes_to_what_the_same_turns_come_to_here(tmp_path, choose):
    with serving(otherwise=completing(choose, 0.02)) as server:
        episodes = evaluated(server, tmp_path, limit=5, rollouts=2)
    assert len(episodes) == 10
    check(episodes, choose)
    traces = [episode.traces[0] for episode in episodes]
    assert {trace.metrics["errors"] for trace in traces} == {0.0 if choose is solve else 3.0}
    if choose is solve:
        assert {trace.reward for trace in traces} == {5.0}


def test_the_runs_record_can_be_read_again(tmp_path):
    with serving(otherwise=completing(solve)) as server:
        episodes = evaluated(server, tmp_path, limit=2)
    (record,) = tmp_path.glob("*/traces.jsonl")
    read = [vf.WireEpisode.model_validate_json(line).traces[0] for line in record.read_text().splitlines()]
    traces = [episode.traces[0] for episode in episodes]
    key = operator.attrgetter("id")
    for one, other in zip(sorted(read, key=key), sorted(traces, key=key), strict=True):
        assert (one.reward, one.metrics, one.info) == (other.reward, other.metrics, other.info)
        assert one.task.key == f"{ENV_ID}/{one.info['visenv']['sample_id']}"
        assert one.task.data.description == played_here(other.task.data.index, solve)[0].episode.query


def test_an_environment_server_plays_the_tasks_that_it_is_sent():
    async def play(server):
        settings = config(server, "unused")
        served = EnvServer(settings.env, address="tcp://127.0.0.1:0")
        running = asyncio.create_task(served.run())
        client = EnvClient(served.address)
        try:
            tasks = list(load_taskset(settings.env.taskset).take(3))
            sent = [task.data.model_dump(mode="json") for task in tasks]
            return await asyncio.gather(
                *(client.run(settings.client, settings.model, settings.sampling, data) for data in sent)
            )
        finally:
            await client.close()
            running.cancel()
            await running

    with serving(otherwise=completing(stumble)) as server:
        episodes = asyncio.run(asyncio.wait_for(play(server), 120))
    check(episodes, stumble)


def test_turns_in_text_are_read_in_their_dialect(tmp_path):
    with serving(otherwise=completing(solve)) as server:
        episodes = evaluated(server, tmp_path, keywords={"dialect": "qwen3_vl"})
        assert not any("tools" in body for _, _, body in server.requests)
    check(episodes, solve, native=False)
    assert {episode.traces[0].reward for episode in episodes} == {5.0}


def pictures_of(body):
    urls = [
        part["image_url"]["url"]
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    return [load_image(base64.b64decode(url.partition(",")[2])) for url in urls]


@pytest.mark.parametrize("memory", ["latest", "keep_all"])
def test_the_model_is_sent_what_the_memory_leaves_in_view(tmp_path, memory):
    with serving(otherwise=completing(stumble)) as server:
        (episode,) = evaluated(server, tmp_path, limit=1, keywords={"memory": memory})
        bodies = [body for _, _, body in server.requests]
    (trace,) = episode.traces
    env, _ = played_here(0, stumble, memory=memory)
    first, last = pictures_of(bodies[0]), pictures_of(bodies[-1])
    assert (first[0] == env.episode.workspace.root.pixels).all()
    assert len(last) == len(env.episode.visible())
    said = " ".join(str(message["content"]) for message in bodies[-1]["messages"])
    assert ("has been archived" in said) == (memory == "latest")
    # It branches where something was archived, and nowhere else.
    assert len(trace.branches) == 1 + sum(bool(turn.archived) for turn in env.episode.transcript)
    # Whatever the branches are, every turn was said once.
    assert sum(node.sampled for node in trace.nodes) == env.episode.turns == len(bodies)
    # What the model said comes back word for word, and every call is answered.
    messages = bodies[-1]["messages"]
    calls = [each["id"] for message in messages for each in message.get("tool_calls") or ()]
    assert sorted(calls) == sorted(message["tool_call_id"] for message in messages if message["role"] == "tool")


def test_rollouts_at_once_share_one_pool_and_their_requests_are_batches(tmp_path):
    async def play(server):
        settings = config(server, tmp_path)
        env = load_environment(settings.env)
        context = ModelContext(model="tiny", client=settings.client, sampling=settings.sampling)
        async with env.serving():
            tasks = list(env.taskset.take(16))
            slots = [slot for task in tasks for slot in env.slots(task)]
            episodes = await asyncio.gather(*(env.run_slot(slot, context) for slot in slots))
            counters = env.taskset.shared.first.pool.counters
            return episodes, counters.requests, counters.mean_batch

    with serving(otherwise=completing(solve, 0.02)) as server:
        episodes, requests, batch = asyncio.run(play(server))
        assert server.most_active > 1
    assert (len(episodes), requests) == (16, 16)
    assert batch > 1
    check(episodes, solve)
    assert len({episode.traces[0].info["visenv"]["sample_id"] for episode in episodes}) == 16


def test_the_runs_own_limit_scores_what_was_merged_last(tmp_path):
    with serving(otherwise=completing(solve)) as server:
        episodes = evaluated(server, tmp_path, env={"agent": {"max_turns": 2}}, limit=2)
    check(episodes, solve, turns=2)
    assert {episode.traces[0].stop_condition for episode in episodes} == {"max_turns"}
    assert {episode.traces[0].info["visenv"]["termination"] for episode in episodes} == {"max_turns"}


def broken_experts():
    return [BrokenExpert()]


def test_an_expert_that_fails_is_nobodys_reward(tmp_path, monkeypatch):
    registration.experts.register("test-broken", f"{__name__}:broken_experts")

    def choose(body):
        return {
            "content": None,
            "tool_calls": [call("PhraseToBoxMask", "p", images=["img_0"], phrase="fail")],
        }, "tool_calls"

    with serving(otherwise=completing(choose)) as server:
        (episode,) = evaluated(server, tmp_path, limit=1, keywords={"experts": "test-broken"})
    assert not episode.ok
    assert "expert" in episode.errors[0].message
    (trace,) = episode.traces
    assert not trace.ok
    assert trace.rewards == {}
    assert trace.stop_condition == "env_error"


class TiredExpert(BrightExpert):
    """Fails the first two times that it is asked, which is as often as a pool asks."""

    def run(self, requests):
        if len(self.batches) < 2:
            self.batches.append(0)
            raise RuntimeError("not yet")
        return super().run(requests)


def tired_experts():
    return [TiredExpert()]


def test_an_episode_that_does_not_count_is_tried_again_if_verifiers_is_told_to(tmp_path):
    registration.experts.register("test-tired", f"{__name__}:tired_experts")
    with serving(otherwise=completing(solve)) as server:
        keywords, env = {"experts": "test-tired"}, {"retries": {"max_retries": 1}}
        (episode,) = evaluated(server, tmp_path, limit=1, keywords=keywords, env=env)
    assert episode.ok
    assert {error.type for error in episode.errors} == {"EnvError"}
    assert episode.traces[0].info["visenv"]["termination"] == "answer"


def test_an_endpoint_that_fails_is_an_error_of_its_rollout_alone(tmp_path):
    first = make_env(ENV_ID, KEYWORDS).dataset.get(0).query

    def act(handler, body):
        if query(body) == first:
            handler.send(400, {"error": {"message": "no such model"}})
        else:
            completing(solve)(handler, body)

    with serving(otherwise=act) as server:
        failed, good = evaluated(server, tmp_path, limit=2)
    assert not failed.ok
    assert "no such model" in failed.traces[0].errors[0].message
    assert good.traces[0].reward == 5.0


def test_an_endpoint_that_fails_for_a_moment_is_asked_again(tmp_path):
    script = [lambda handler, body: handler.send(503, {"error": {"message": "busy"}})] * 2
    with serving(*script, otherwise=completing(solve)) as server:
        (episode,) = evaluated(server, tmp_path, limit=1)
    assert episode.traces[0].reward == 5.0


def test_a_system_prompt_of_ones_own_takes_the_place_of_ours(tmp_path):
    (tmp_path / "prompt.txt").write_text("Call the tools, and be brief.")
    with serving(otherwise=completing(solve)) as server:
        evaluated(server, tmp_path, limit=1, env={"taskset": {"system_prompt": str(tmp_path / "prompt.txt")}})
        assert server.requests[0][2]["messages"][0] == {"role": "system", "content": "Call the tools, and be brief."}


def test_tasks_are_the_samples_in_order_and_know_their_end():
    taskset = load_taskset(adapter.VisionConfig(id=PLUGIN, env=ENV_ID, keywords=KEYWORDS))
    dataset = taskset.shared.first.dataset
    tasks = list(taskset.include(idx=["2:4"]))
    assert [task.data.id for task in tasks] == [dataset.get(2).sample_id, dataset.get(3).sample_id]
    assert [task.key for task in tasks] == [f"{ENV_ID}/{task.data.id}" for task in tasks]
    assert (taskset.bounded, taskset.INFINITE) == (True, False)
    taskset.close()
    endless = load_taskset(adapter.VisionConfig(id=PLUGIN, env=ENV_ID, keywords={**KEYWORDS, "split": "train"}))
    assert (endless.bounded, endless.take(3).bounded) == (False, True)
    assert len(list(endless.take(3))) == 3
    endless.close()


def test_settings_that_cannot_be_played_are_refused(tmp_path):
    with serving(otherwise=completing(solve)) as server:
        with pytest.raises(InvalidData, match="Expected the harness VisionHarness"):
            evaluated(server, tmp_path, env={"agent": {"harness": {"id": "null"}}})
        with pytest.raises(VisenvError, match="no-such-set"):
            evaluated(server, tmp_path, keywords={"dataset": "no-such-set"})


def test_the_command_of_verifiers_finds_it(tmp_path):
    keywords = json.dumps(KEYWORDS)
    with serving(otherwise=completing(solve)) as server:
        command = [
            Path(sys.executable).parent / "vf-eval",
            PLUGIN,
            "-m",
            "tiny",
            "--client.base-url",
            server.url,
            "-n",
            "2",
        ]
        options = ["--env.taskset.keywords", keywords, "--no-push", "--no-rich", "-o", str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(EXAMPLE.parent)}
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("*/traces.jsonl")
    assert len(record.read_text().splitlines()) == 2


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    with serving(otherwise=completing(solve)) as server:
        options = ["--model", "tiny", "--base-url", server.url, "--experts", "oracle", "--samples", "3"]
        monkeypatch.setattr(sys, "argv", ["verifiers_eval.py", *options, "--out", str(tmp_path)])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert capsys.readouterr().out.splitlines()[-1] == "3 of 3 episodes count, mean reward 5.00"


def test_the_page_prints_what_it_says(tmp_path, monkeypatch, capsys):
    module, code, says = re.findall(r"```(?:python notest|text)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(module, str(PAGE), "exec"), {})
    with serving(otherwise=completing(solve)) as server:
        exec(compile(code.replace("http://127.0.0.1:8000/v1", server.url), str(PAGE), "exec"), {})
    assert capsys.readouterr().out == says
    assert len([line for line in (module + code).splitlines() if line]) <= 17


def test_the_examples_of_the_docstrings_run():
    assert doctest.testmod(adapter).failed == 0
