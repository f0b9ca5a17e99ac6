"""MCP: an episode as a server of the Model Context Protocol, whose tools any assistant can call.

``python -m visenv.adapters.mcp VisHarness/RefSeg-v0`` serves one on standard input and output, as assistants start
servers. What each episode came to can be written to a file, a line each: ``--record FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import visenv
from visenv.adapters.blocks import with_mcp_images
from visenv.adapters.making import make_env
from visenv.errors import MissingDependency
from visenv.protocol.schema import ANSWER_TOOL, json_schema
from visenv.types import ToolSpec

try:
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server
    from pydantic import TypeAdapter
except ImportError as error:
    raise MissingDependency('visenv.adapters.mcp needs the MCP SDK: pip install "visenv[mcp]".') from error

BEGIN = ToolSpec(
    "Begin",
    "Begins the next task and shows it; a task that is not finished is given up. Call it first.",
    (),
)
"""Stands beside the tools of the episode and the answer."""


class EpisodeServer:
    """One episode after the other, for one client.

    Args:
        env_id: as ``gym.make`` takes it.
        record: a file to which a line of JSON is appended for each finished episode: sample, turns, reward, metrics.
        seed: of the samples.
        **keywords: of the environment.

    Attributes:
        server: the server, to be run on whatever transport.
        env: the environment.
    """

    def __init__(
        self, env_id: str, *, record: str | Path | None = None, seed: int | None = None, **keywords: Any
    ) -> None:
        settings = {"obs": "features", "dialect": "openai", **keywords}
        self.env = make_env(env_id, settings)
        self._record, self._seed = None if record is None else Path(record), seed
        self._reward: float | None = None
        """What the episode has paid so far; None before the first begins."""
        self._one_at_a_time = asyncio.Lock()
        self.server: Server[Any] = Server(
            env_id.replace("/", "-"),
            version=visenv.__version__,
            instructions="Call Begin to be given a task. Call one tool at a time, and Answer when the task is done.",
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )

    @property
    def specs(self) -> list[ToolSpec]:
        """What can be called."""
        return [BEGIN, *self.env.specs, ANSWER_TOOL]

    async def _list_tools(self, context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(name=spec.name, description=spec.description, input_schema=json_schema(spec))
                for spec in self.specs
            ]
        )

    async def _call_tool(self, context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        async with self._one_at_a_time:
            # Experts take their time: the server answers pings meanwhile.
            blocks, failed = await asyncio.to_thread(self.call, params.name, dict(params.arguments or {}))
        content = _CONTENT.validate_python(with_mcp_images(blocks))
        return types.CallToolResult(content=content, is_error=failed)

    def call(self, name: str, arguments: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
        """Carry out a call.

        Args:
            name: of a tool, ``Begin`` or ``Answer``.
            arguments: its arguments.

        Returns:
            The reply as content blocks, and whether the call was at fault.
        """
        if name == BEGIN.name:
            return self._begin(), False
        if self._reward is None or self.env.episode.done:
            return [{"type": "text", "text": "There is no task at hand: call Begin."}], True
        episode = self.env.episode
        # As a message of the dialect, so that coordinates are read in the frame that replies use.
        call = {"id": "call", "type": "function", "function": {"name": name, "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        _, reward, _, _, info = self.env.step(message)
        self._reward += float(reward)
        if episode.done and self._record is not None:
            line = {key: info.get(key) for key in ("sample_id", "turn", "termination", "metrics", "invalid")}
            with self._record.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "reward": self._reward}) + "\n")
        return episode.reply(), info["error"] is not None

    def _begin(self) -> list[dict[str, Any]]:
        self.env.reset(seed=self._seed)
        self._seed, self._reward = None, 0.0
        return self.env.episode.reply()


_CONTENT = TypeAdapter(list[types.ContentBlock])


async def serve_stdio(served: EpisodeServer) -> None:
    """Serve on standard input and output until the client goes."""
    async with stdio_server() as (incoming, outgoing):
        await served.server.run(incoming, outgoing, served.server.create_initialization_options())


def main() -> None:
    """Serve an environment, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m visenv.adapters.mcp", description=__doc__)
    parser.add_argument("env_id", help="such as VisHarness/RefSeg-v0")
    parser.add_argument("--dataset", default="scenes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--experts", default="classical")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="a file for what each episode came to, a line of JSON each")
    args = vars(parser.parse_args())
    asyncio.run(serve_stdio(EpisodeServer(args.pop("env_id"), **args)))


if __name__ == "__main__":
    main()
