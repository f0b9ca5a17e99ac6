"""Programs that really run, where they can do no harm: the expert for ``RunCode``, and the sandboxes behind it."""

from __future__ import annotations

from visenv.experts.sandbox.backends import DOCKERFILE, Backend, Bubblewrap, Docker, Subprocess
from visenv.experts.sandbox.expert import Sandbox, make
from visenv.experts.sandbox.limits import Limits

__all__ = ["DOCKERFILE", "Backend", "Bubblewrap", "Docker", "Limits", "Sandbox", "Subprocess", "make"]
