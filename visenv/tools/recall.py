"""Bringing back what was archived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visenv.tools.base import ToolContext
from visenv.types import Argument, ToolSpec
from visenv.workspace import Effect, Picture


class RecallImage:
    """Shows an image again, at the price of its visual tokens."""

    spec = ToolSpec(
        "RecallImage",
        "Brings an image back into view: one that was archived, or one that was stored without being shown. It costs "
        "its visual tokens once more.",
        (Argument("image", "image", "name of the image to show"),),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        image = context.workspace.images[arguments["image"]]
        return Effect((f"{image.name} ({image.size[0]}x{image.size[1]}):", Picture(image.name, image)))
