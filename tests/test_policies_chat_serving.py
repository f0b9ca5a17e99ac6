"""A chat policy at a real server: ``transformers serve`` on a tiny Qwen3-VL that writes tool calls now and then."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from visenv.evaluation import EvalConfig, evaluate

pytestmark = pytest.mark.slow

CALL = (
    "<think>Look.</think>\n<tool_call>\n"
    '{"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "thing"}}\n</tool_call>'
)
TEMPLATE = """{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% for part in message.content %}
{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}
{%- endfor %}
{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from tests.tiny_qwen import tiny_model, tiny_processor

    folder = tmp_path_factory.mktemp("qwen")
    processor = tiny_processor([CALL], TEMPLATE)
    model = tiny_model(processor, {CALL: 13.0})
    # A call ends the turn: the tiny model would never end it otherwise.
    model.generation_config.eos_token_id = processor.tokenizer.convert_tokens_to_ids(CALL)
    model.save_pretrained(folder / "tiny")
    processor.save_pretrained(folder / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = "from transformers.cli.transformers import main; main()"
    words = ["serve", str(folder / "tiny"), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words, "--default-seed", "0"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=log,
        stderr=log,
    )
    try:
        until = time.monotonic() + 240
        while True:
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < until, "the server does not start"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.3)
        yield str(folder / "tiny"), f"http://127.0.0.1:{port}/v1", folder / "log"
    finally:
        process.kill()
        process.wait()
        log.close()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tools", ["text", "native"])
def test_episodes_are_played_at_transformers_serve(server, tmp_path, tools, stream):
    model, url, log = server
    options = {"base_url": url, "tools": tools, "stream": stream, "max_tokens": 8, "parallel": 2}
    options |= {"retries": 0, "timeout": 60.0}
    env = {"experts": "oracle", "difficulty": 0, "max_turns": 4}
    config = EvalConfig("VisHarness/RefSeg-v0", f"openai:{model}", 4, env=env, options=options)
    report = evaluate(config, tmp_path, concurrency=2)
    records = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    assert report["problems"] == {}, log.read_text()[-2000:]
    assert set(report["ends"]) <= {"answer", "max_turns"}
    turns = [turn for record in records for turn in record["turns"]]
    assert len(turns) == report["cost"]["turns"]["total"] > 0
    usage = report["timing"]["usage"]
    assert usage["requests"] == len(turns)
    assert usage["prompt_tokens"] > usage["completion_tokens"] > 0
    if tools == "text":
        # What the model writes comes through letter by letter, and is carried out.
        assert {turn["text"] for turn in turns} == {CALL}
        assert report["cost"]["calls"] == {"PhraseToBoxMask": 16}
        assert report["cost"]["faults"] == {}
        assert usage["completion_tokens"] == 16
