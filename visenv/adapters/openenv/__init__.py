"""OpenEnv: environments as a server that many clients play on at once, and the typed client.

``python -m visenv.adapters.openenv VisHarness/RefSeg-v0`` serves one environment id; each client has a session, and so
an episode, of its own, and all share the data, the experts and what the pool remembers: what they ask at the same time
is answered as one batch.

Example:
    >>> from visenv.adapters.openenv import VisionAction, VisionEnvironment
    >>> env = VisionEnvironment.factory("VisHarness/RefSeg-v0", split="val", experts="oracle")()
    >>> task = env.reset(index=0)
    >>> task.reward, task.done, [part["type"] for part in task.content]
    (None, False, ['text', 'text', 'image_url'])
    >>> found = env.step(VisionAction(name="PhraseToBoxMask", arguments={"images": ["img_0"], "phrase": "thing"}))
    >>> merged = env.step(VisionAction(name="MergeBoxMask", arguments={"images": ["img_0"]}))
    >>> last = env.step(VisionAction(name="Answer", arguments={"text": "There."}))
    >>> last.reward, last.done, last.terminated, last.truncated
    (5.0, True, True, False)
"""

from __future__ import annotations

from visenv.errors import MissingDependency

try:
    from visenv.adapters.openenv.app import make_app, manifest
    from visenv.adapters.openenv.client import VisionClient
    from visenv.adapters.openenv.environment import VisionEnvironment
    from visenv.adapters.openenv.models import VisionAction, VisionObservation, VisionState
except ModuleNotFoundError as error:
    if (error.name or "").startswith("visenv"):
        raise
    raise MissingDependency('visenv.adapters.openenv needs OpenEnv: pip install "visenv[openenv]".') from error

__all__ = [
    "VisionAction",
    "VisionClient",
    "VisionEnvironment",
    "VisionObservation",
    "VisionState",
    "make_app",
    "manifest",
]
