"""All kinds of objects, by name."""

from __future__ import annotations

from visenv.datasets.scenes.household import HOUSEHOLD
from visenv.datasets.scenes.outdoors import OUTDOORS
from visenv.datasets.scenes.parts import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*HOUSEHOLD, *OUTDOORS)}
"""Every kind of object, by name."""
