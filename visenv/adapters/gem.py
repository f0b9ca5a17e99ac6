"""GEM: environments for ``gem.make`` and ``gem.make_vec``, text in and text out.

Observations are text, as GEM's wrappers take it; or, with ``pictures=True``, ``{"problem": text, "images": pictures}``,
as its visual environments give it. Some things are as GEM has them, and the adapter makes the best of each:

- A trainer that joins observations keeps all that was shown, so nothing is archived: ``memory`` is ``"keep_all"``.
- A vector environment begins the next episode in the step that ends one, and drops that step's ``info``: the metrics of
  the episode before stand in the ``info`` of ``reset``, under ``prev_ep_metrics``.
- It steps its environments one after the other, or (``async_mode=True``) on threads: then what they ask of experts at
  the same time is answered together.
- ``reset`` of GEM seeds Python's and numpy's global generators; here each environment has its own.
"""

from __future__ import annotations

from typing import Any

from visenv.actions import structured_action
from visenv.adapters.blocks import as_text, with_pillow
from visenv.adapters.threads import OnThreads
from visenv.errors import InvalidData, MissingDependency
from visenv.spaces import structured_space

try:
    import gem
except ImportError as error:
    raise MissingDependency('visenv.adapters.gem needs GEM: pip install "visenv[gem]".') from error

Observation = str | dict[str, Any]


def register(env_id: str, *, name: str | None = None, pictures: bool = False, **keywords: Any) -> str:
    """Make an environment known to ``gem.make``, and load its data and experts once for all that are made.

    ``gem.make(name, seed=…)`` then makes one; it also takes ``pictures`` and keywords of the environment that this one
    is to have otherwise, such as ``max_turns``.

    Args:
        env_id: as ``gym.make`` takes it.
        name: under which it is known there; the id itself if left out.
        pictures: whether observations hold pictures; without them they are text alone, ``[image NAME]`` for each.
        **keywords: of the environment.

    Returns:
        The name.

    Raises:
        VisenvError: as ``gym.make``: data, weights and devices are checked now.
        ValueError: if the name is taken.
    """
    settings = {"memory": "keep_all", "obs": "features", **keywords, "action_mode": "text"}
    kind = OnThreads(env_id, settings)
    gem.register(name or env_id, entry_point=f"{__name__}:GemEnv", kind=kind, pictures=pictures)
    return name or env_id


class GemEnv(gem.Env):
    """One episode after the other, by texts; ``register`` makes it known.

    Args:
        kind: what all environments of a name have in common.
        seed: of the samples, for a first ``reset`` without one; ``gem.make_vec`` gives each environment its own.
        pictures: whether observations hold pictures.
        **changes: keywords of the environment that this one has otherwise.

    Attributes:
        inner: the environment of visenv.
    """

    def __init__(self, kind: OnThreads, seed: int | None = None, pictures: bool = False, **changes: Any) -> None:
        super().__init__()
        self.inner = kind.make(**changes)
        self._kind, self._seed, self._pictures, self._changes = kind, seed, pictures, changes
        self._space = structured_space(self.inner.specs)
        self._space.seed(seed)
        self._before: dict[str, Any] = {}
        """The ``info`` with which the episode before has ended."""
        self._begun = False

    def reset(self, seed: int | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of the samples from now on; if left out, the next one is drawn.

        Returns:
            The rules with the tools, and the task; and the environment's ``info``, with ``prev_ep_metrics`` (and
            ``prev_ep_invalid``) of the episode before, if it has ended.
        """
        self._kind.begin(self.inner, seed=self._seed if seed is None else seed)
        if seed is not None:
            self._space.seed(seed)
        self._seed, self._begun = None, True
        rules, task = self.inner.episode.messages()
        before, self._before = self._before, {}
        names = {name: before[name] for name in ("metrics", "invalid") if name in before}
        kept = {f"prev_ep_{name}": value for name, value in names.items()}
        blocks = [*rules["content"], {"type": "text", "text": "\n\n"}, *task["content"]]
        return self._shown(blocks), {**self.inner.info(), **kept}

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one turn.

        Args:
            action: what the model wrote; a bad action is a turn that says what was wrong.

        Returns:
            The reply, the reward, whether the episode has ended, whether it was cut short (because it is invalid), and
            the environment's ``info``.

        Raises:
            EpisodeOver: if the episode has ended, or none was begun.
        """
        result = self._kind.step(self.inner, action)
        info = self.inner.info()
        if result.terminated or result.truncated:
            self._before = info
        content = self.inner.episode.messages()[-1]["content"]
        return self._shown(content), result.reward, result.terminated, result.truncated, info

    def sample_random_action(self) -> str:
        """A call by chance, as a model would write it; most cannot be carried out.

        Raises:
            EpisodeOver: if no episode was begun.
        """
        episode = self.inner.episode
        return episode.dialect.render(structured_action(self._space.sample(), self.inner.specs, episode))

    def spawn(self, same_state: bool = False, **kwargs: Any) -> GemEnv:
        """One more environment like this one, with the same data and experts.

        Args:
            same_state: whether it goes on from where this one's episode stands.
            **kwargs: what it has otherwise: ``seed``, ``pictures``, keywords of the environment.
        """
        same = {"seed": self._seed, "pictures": self._pictures, **self._changes}
        made = type(self)(self._kind, **{**same, **kwargs})
        if same_state and self._begun:
            made.set_state(self.get_state())
        return made

    def get_state(self) -> dict[str, Any]:
        """Where the episode stands, and from where samples are drawn; it can be pickled.

        Raises:
            EpisodeOver: if no episode was begun.
        """
        return {"episode": self.inner.episode.get_state(), "samples": self.inner.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that ``get_state`` gave, of this environment or of another of its kind.

        Raises:
            InvalidData: if it is no such state.
        """
        if not isinstance(state, dict) or not {"episode", "samples"} <= state.keys():
            raise InvalidData(f"Expected a state that get_state() gave, but got {state!r:.80}.")
        self.inner.begin(state["episode"].sample)
        self.inner.episode.set_state(state["episode"])
        self.inner.np_random.bit_generator.state = state["samples"]
        self._seed, self._begun = None, True

    def _shown(self, blocks: list[dict[str, Any]]) -> Observation:
        text = as_text(blocks)
        if not self._pictures:
            return text
        return {
            "problem": text,
            "images": [block["image"] for block in with_pillow(blocks) if block["type"] == "image"],
        }
