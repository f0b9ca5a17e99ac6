"""NeMo-Gym's servers in one event loop, configured by the files of the example, and a model that follows a script."""

import asyncio
import json
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import nemo_gym.global_config
import nemo_gym.server_utils
import uvicorn
from nemo_gym.base_responses_api_model import BaseResponsesAPIModelConfig, SimpleResponsesAPIModel
from nemo_gym.global_config import GlobalConfigDictParserConfig, set_global_config_dict
from nemo_gym.openai_utils import NeMoGymResponse, NeMoGymResponseCreateParamsNonStreaming
from nemo_gym.rollout_collection import RolloutCollectionConfig, RolloutCollectionHelper
from nemo_gym.server_utils import HeadServer, ServerClient
from omegaconf import DictConfig
from responses_api_agents.gymnasium_agent.app import GymnasiumAgent
from responses_api_agents.simple_agent.app import SimpleAgent
from stubs import BrokenExpert

from visenv.adapters.nemo_gym import VisionServer
from visenv.adapters.nemo_gym_agent import VisionAgent

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "nemo_gym"
AGENTS = {"visenv_agent": VisionAgent, "visenv_gymnasium_agent": GymnasiumAgent, "visenv_simple_agent": SimpleAgent}


def broken():
    """A set of experts that fail, as a configuration can name it."""
    return [BrokenExpert()]


def response(*items):
    """What a model answers: texts, and function calls as ``(name, arguments)``, the latter also as a text."""
    output = []
    for place, item in enumerate(items):
        if isinstance(item, str):
            content = [{"type": "output_text", "text": item, "annotations": []}]
            output.append({"id": "m", "type": "message", "role": "assistant", "content": content})
        else:
            name, arguments = item
            written = arguments if isinstance(arguments, str) else json.dumps(arguments)
            output.append({"type": "function_call", "call_id": f"c{place}", "name": name, "arguments": written})
    return {
        "id": "r",
        "created_at": 0.0,
        "model": "scripted",
        "object": "response",
        "output": output,
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
    }


class ScriptedModel(SimpleResponsesAPIModel):
    """Answers the n-th request of a conversation with the n-th line of a script, and counts pictures."""

    config: BaseResponsesAPIModelConfig
    script: list = []
    pictures: list = []

    async def responses(self, body: NeMoGymResponseCreateParamsNonStreaming) -> NeMoGymResponse:
        items = [item.model_dump() for item in body.input]
        answered = {"function_call": 0, "message": 0}
        for item in items:
            if item["type"] == "function_call" or item.get("role") == "assistant":
                answered[item["type"]] += 1
        parts = [part for item in items if isinstance(item.get("content"), list) for part in item["content"]]
        self.pictures.append(sum(part["type"] == "input_image" for part in parts))
        turn = sum(answered.values())
        return NeMoGymResponse.model_validate(response(self.script[min(turn, len(self.script) - 1)]))

    async def chat_completions(self, body: dict) -> dict:
        raise NotImplementedError


def configure(changes):
    """Read the example's configuration as NeMo-Gym does, with other keywords for the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    initial = {
        "config_paths": [str(EXAMPLE / "visenv.yaml")],
        "head_server": {"host": "127.0.0.1", "port": port},
        "policy_model": {"responses_api_models": {"scripted": {"entrypoint": "app.py"}}},
        "visenv": {"resources_servers": {"visenv": changes}},
    }
    parse = GlobalConfigDictParserConfig(
        initial_global_config_dict=DictConfig(initial), skip_load_from_cli=True, skip_load_from_dotenv=True
    )
    set_global_config_dict(parse)
    return nemo_gym.global_config.get_global_config_dict()


def made(kind, name, **fields):
    """A server as NeMo-Gym makes it in its own process."""
    os.environ["NEMO_GYM_CONFIG_PATH"] = name
    config = kind.load_config_from_global_config()
    client = ServerClient(
        head_server_config=ServerClient.load_head_server_config(),
        global_config_dict=nemo_gym.global_config.get_global_config_dict(),
    )
    return kind(config=config, server_client=client, **fields)


@asynccontextmanager
async def running(script):
    """All servers of the configuration; gives the resources server and the model server."""
    served = made(VisionServer, "visenv")
    model = made(ScriptedModel, "policy_model", script=script)
    running_servers, tasks = [], []
    for server in (served, model, *(made(kind, name) for name, kind in AGENTS.items())):
        app = server.setup_webserver()
        server.setup_liveness(app)
        server.setup_exception_middleware(app)
        config = uvicorn.Config(app, host=server.config.host, port=server.config.port, log_level="warning")
        running_servers.append(uvicorn.Server(config))
        tasks.append(asyncio.create_task(running_servers[-1].serve()))
    head, thread, _ = HeadServer.run_webserver()
    while not all(server.started for server in (*running_servers, head)):
        await asyncio.sleep(0.01)
    try:
        yield served, model
    finally:
        await nemo_gym.server_utils.get_global_aiohttp_client().close()
        nemo_gym.server_utils._GLOBAL_AIOHTTP_CLIENT = None
        for server in (*running_servers, head):
            server.should_exit = True
        await asyncio.gather(*tasks)
        thread.join()


async def collect(rows, folder, repeats):
    """What NeMo-Gym's own collection of rollouts comes to: results, and its file of averages."""
    written = folder / "rows.jsonl"
    written.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = RolloutCollectionConfig(
        input_jsonl_fpath=str(written),
        output_jsonl_fpath=str(folder / "rollouts.jsonl"),
        num_repeats=repeats,
        upload_rollouts_to_wandb=False,
    )
    await RolloutCollectionHelper().run_from_config(config)
    results = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    return results, json.loads((folder / "rollouts_aggregate_metrics.json").read_text())
