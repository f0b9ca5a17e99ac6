"""verifiers: a task set, an environment and a harness, which play episodes with any of its models and runners.

verifiers finds them by the name of a module that exports them, so a module of yours names them, and says no more::

    from visenv.adapters.verifiers import VisionEnv, VisionHarness, VisionTaskset

    __all__ = ["VisionEnv", "VisionHarness", "VisionTaskset"]

- ``VisionTaskset`` yields a task a sample: which environment, and which of its samples.
- ``VisionEnv`` is a view over one ``Episode`` a rollout: each answer of the model is a turn, the experts' requests of
  all rollouts are answered together, and the end of the episode ends the rollout.
- ``VisionHarness`` asks the model once a turn, in this process, with the tools and the whole conversation as the memory
  leaves it: an archived picture is no longer sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, Literal

from visenv.adapters.making import AsyncShared
from visenv.async_batches import drive_async
from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData, MissingDependency
from visenv.protocol import openai_tools
from visenv.protocol.exchange import chat_messages, read_reply
from visenv.records import outcome_record

try:
    import verifiers.v1 as vf
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    from pydantic import Field
    from verifiers.v1.dialects.chat import message_to_wire
    from verifiers.v1.utils.loaders import harness_class
except ModuleNotFoundError as error:
    raise MissingDependency('visenv.adapters.verifiers needs verifiers: pip install "visenv[verifiers]".') from error

__all__ = [
    "VisionConfig",
    "VisionData",
    "VisionEnv",
    "VisionEnvConfig",
    "VisionHarness",
    "VisionHarnessConfig",
    "VisionState",
    "VisionTask",
    "VisionTaskset",
]

NATIVE = "openai"
"""The dialect whose calls travel beside the text of a message."""


class VisionConfig(vf.TasksetConfig):
    """Which environment is played, under ``--env.taskset.*``."""

    env: str = "VisHarness/RefSeg-v0"
    """As ``gym.make`` takes it."""
    keywords: dict[str, Any] = Field(default_factory=dict)
    """Of the environment: ``dataset``, ``split``, ``experts``, ``reward``, …; ``dialect`` is ``"openai"``, whose tool
    calls are the endpoint's own, unless it names another, whose turns are text."""
    image_format: Literal["png", "jpeg"] = "png"
    """Of pictures that are sent."""


class VisionData(vf.TaskData):
    """A task on the wire: a sample by its number. Its pictures are read where the episode is played."""

    env: str
    index: int


class VisionState(vf.State):
    """What a rollout has come to; of this rollout alone, and not recorded."""

    tools: list[dict[str, Any]] = Field(default_factory=list)
    """As OpenAI-compatible servers are told."""
    rewards: dict[str, float] = Field(default_factory=dict)
    """What the episode has paid, by term."""
    metrics: dict[str, float] = Field(default_factory=dict)


class VisionTask(vf.Task[VisionData, VisionState]):
    """A task, scored by what its episode has come to."""

    @property
    def key(self) -> str:
        """Which sample it is."""
        return f"{self.data.env}/{self.data.id}"

    @vf.reward
    async def episode(self, trace: Any) -> dict[str, float]:
        """What the episode has paid, by term: the sum is the episode's reward."""
        return dict(trace.state.rewards)

    @vf.metric
    async def figures(self, trace: Any) -> dict[str, float]:
        """The episode's own metrics."""
        return dict(trace.state.metrics)


class VisionTaskset(vf.Taskset[VisionTask, VisionConfig]):
    """The samples of an environment's data set, in order."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__(config)
        # A list, so that views of this task set have the same one.
        self._made: list[AsyncShared] = []

    @property
    def shared(self) -> AsyncShared:
        """What all rollouts have in common: data, experts, and what the pool remembers; made when first asked for.

        Raises:
            VisenvError: as ``gym.make``.
        """
        if not self._made:
            settings = {"dialect": NATIVE, "obs": "features", **self.config.keywords}
            mode = "structured" if settings["dialect"] == NATIVE else "text"
            self._made.append(AsyncShared(self.config.env, {**settings, "action_mode": mode}))
        return self._made[0]

    def close(self) -> None:
        """End the threads and processes of the experts; they start again when they are needed."""
        while self._made:
            self._made.pop().close()

    @property
    def INFINITE(self) -> bool:  # noqa: N802 - verifiers' name
        """Whether the samples never end: then say how many there are to be (``-n``)."""
        return self.shared.first.dataset.size is None

    def load(self) -> Iterator[VisionTask]:
        """The tasks, a sample each."""
        dataset = self.shared.first.dataset
        index = 0
        while dataset.size is None or index < dataset.size:
            sample = dataset.get(index)
            data = VisionData(
                id=sample.sample_id, name=sample.sample_id, description=sample.query, env=self.config.env, index=index
            )
            yield VisionTask(data, self.config.task)
            index += 1


class VisionHarnessConfig(vf.HarnessConfig):
    """How the model is asked, under ``--env.agent.harness.*``."""

    retries: int = Field(4, ge=0)
    """How often a request that failed is sent again."""
    timeout: float = Field(600.0, gt=0)
    """Seconds that an answer may take."""


class VisionHarness(vf.Harness[VisionHarnessConfig]):
    """Asks the model once a turn, in this process: no program is started, and nothing is installed."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def session(self, *arguments: Any, **keywords: Any) -> vf.HarnessSession:
        """One rollout's way to its model."""
        return _Session(self, *arguments, **keywords)

    async def launch(self, *arguments: Any, **keywords: Any) -> vf.ProgramResult:
        """There is no program: ``VisionEnv`` gives the turns.

        Raises:
            InvalidData: always.
        """
        raise InvalidData("VisionHarness answers the turns of VisionEnv alone: pair it with VisionEnv, or use another.")


class _Session(vf.HarnessSession):
    """The conversation is the episode's: each turn brings all of it, and nothing is kept here but the connection."""

    _client: AsyncOpenAI | None = None

    async def _run(self, messages: Any) -> vf.ProgramResult:
        if messages is None:
            return await self.harness.launch()
        if self._client is None:
            config = self.harness.config
            self._client = AsyncOpenAI(
                base_url=self.endpoint,
                api_key=self.secret,
                max_retries=config.retries,
                timeout=config.timeout,
                http_client=DefaultAsyncHttpxClient(verify=_certificates()),
            )
        body: dict[str, Any] = {"model": self.ctx.model, "messages": [message_to_wire(each) for each in messages]}
        if self.trace.state.tools:
            body["tools"] = self.trace.state.tools
        # The reply is read from the trace, into which verifiers writes every answer of the model.
        await self._client.chat.completions.with_raw_response.create(**body)
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")

    async def close(self) -> None:
        """Close the connection."""
        await super().close()
        if self._client is not None:
            await self._client.close()


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes a tenth of a second, in which all rollouts wait."""
    return ssl.create_default_context()


class VisionEnvConfig(vf.EnvConfig):
    """The environment's settings, under ``--env.*``."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    """Who plays. The runtime is this machine's, in which no program is started."""


class VisionEnv(vf.Env[VisionEnvConfig]):
    """One episode a rollout.

    Raises:
        InvalidData: if the agent has another harness than ``VisionHarness``.
    """

    def __init__(self, config: VisionEnvConfig) -> None:
        super().__init__(config)
        for harness in config.agent_harnesses().values():
            if not issubclass(harness_class(harness.id), VisionHarness):
                raise InvalidData(
                    f"Expected the harness VisionHarness, which sends the episode's own conversation, but got "
                    f"{harness.id!r}: export VisionHarness from the module of the task set, and name no other."
                )

    async def start(self) -> None:
        """Make the data and the experts ready."""
        _ = self.taskset.shared

    async def stop(self) -> None:
        """End their threads and processes."""
        self.taskset.close()

    async def run(self, task: VisionTask, agents: Any) -> None:
        """Play the episode about a task's sample.

        Args:
            task: whose sample it is.
            agents: the one agent.

        Raises:
            EnvError: if an expert stays broken: the episode does not count, and verifiers may try it again.
            DatasetError: if the sample cannot be read.
        """
        shared = self.taskset.shared
        env = shared.make()
        await shared.drawing(partial(env.reset, options={"index": task.data.index}))
        native = env.config.dialect == NATIVE
        async with agents.agent.interaction(task) as interaction:
            state = interaction.trace.state
            state.tools = openai_tools(env.specs) if native else []
            said: list[dict[str, Any]] = []
            with shared.pool.member():
                while not env.episode.done:
                    # Pictures are encoded on another thread, so that other rollouts go on.
                    sent = await asyncio.to_thread(self._conversation, env.episode, said, native, task)
                    segment = await interaction.turn(sent)
                    if segment.terminated:
                        break
                    said.append(message_to_wire(segment.messages[-1]))
                    action = read_reply(
                        said[-1], interaction.trace.calls[-1].finish_reason, native=native, dialect=env.episode.dialect
                    )
                    result = env.finish(await drive_async(env.stepping(action), shared.pool))
                    _add(state.rewards, result.reward_terms)
            self._conclude(env, interaction.trace)

    def _conversation(
        self, episode: Episode, said: list[dict[str, Any]], native: bool, task: VisionTask
    ) -> list[dict[str, Any]]:
        config = self.taskset.config
        messages = chat_messages(
            episode.messages(), episode.transcript, native=native, said=said, image_format=config.image_format
        )
        if task.data.system_prompt is not None:
            messages[0] = {"role": "system", "content": task.data.system_prompt}
        return messages

    def _conclude(self, env: VisionToolEnv, trace: Any) -> None:
        """Write down what an episode has come to, before its rollout is scored."""
        episode, state = env.episode, trace.state
        if episode.problem is not None:
            raise vf.EnvError(f"The episode does not count, since an expert stays broken: {episode.problem}")
        if not episode.done:
            # The run's own limits have ended the rollout: what was merged last is scored.
            _add(state.rewards, episode.stop())
        state.metrics = env.metrics()
        trace.info["visenv"] = {
            "sample_id": episode.sample_id,
            "termination": episode.outcome.termination,
            "turns": episode.turns,
            "outcome": outcome_record(episode.outcome),
        }


def _add(totals: dict[str, float], terms: dict[str, float]) -> None:
    for name, value in terms.items():
        totals[name] = totals.get(name, 0.0) + value
