"""The kinds of objects that people make and keep at home."""

from __future__ import annotations

import numpy as np

from visenv.datasets.scenes.parts import Kind, Part
from visenv.datasets.scenes.shapes import box, ellipse, polygon, smooth, stroke


def _hook(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    angles = np.radians(np.linspace(0, 180, 9))
    return [(float(x - radius + radius * np.cos(a)), float(y + radius * np.sin(a))) for a in angles]


HOUSEHOLD = (
    Kind(
        "mug",
        "mugs",
        ("to drink hot coffee from", "that holds hot tea"),
        (
            Part("handle", (ellipse(0.62, 0.0, 0.46, 0.5), ellipse(0.62, 0.0, 0.26, 0.3))),
            Part("body", (box(-0.8, -0.8, 0.62, 0.85),)),
            Part("rim", (ellipse(-0.09, -0.8, 0.71, 0.14),), "shade"),
        ),
    ),
    Kind(
        "bottle",
        "bottles",
        ("that wine is sold in", "that is closed with a cork"),
        (
            Part("cork", (box(-0.12, -1, 0.12, -0.78),), "wood"),
            Part(
                "glass",
                (
                    smooth(
                        (-0.14, -0.85),
                        (0.14, -0.85),
                        (0.14, -0.4),
                        (0.36, -0.1),
                        (0.36, 1),
                        (-0.36, 1),
                        (-0.36, -0.1),
                        (-0.14, -0.4),
                        rounds=2,
                    ),
                ),
            ),
            Part("label", (box(-0.33, 0.25, 0.33, 0.6),), "cream"),
        ),
    ),
    Kind(
        "lamp",
        "lamps",
        ("to read by at night", "that gives light in a dark room"),
        (
            Part("stem", (box(-0.08, -0.1, 0.08, 0.9),), "metal"),
            Part("base", (ellipse(0, 0.95, 0.45, 0.28, 180, 360),), "metal"),
            Part("shade", (polygon((-0.35, -1), (0.35, -1), (0.75, 0.05), (-0.75, 0.05)),)),
        ),
    ),
    Kind(
        "clock",
        "clocks",
        ("that tells the time", "that wakes you in the morning"),
        (
            Part(
                "feet",
                (polygon((-0.62, 1), (-0.4, 0.5), (-0.2, 0.65)), polygon((0.62, 1), (0.4, 0.5), (0.2, 0.65))),
                "dark",
            ),
            Part("bells", (ellipse(-0.48, -0.68, 0.32, 0.27), ellipse(0.48, -0.68, 0.32, 0.27))),
            Part("case", (ellipse(0, 0.05, 0.8, 0.8),)),
            Part("face", (ellipse(0, 0.05, 0.46, 0.46),), "cream"),
            Part("hands", (box(-0.05, -0.3, 0.05, 0.1), box(0.05, 0.0, 0.28, 0.1)), "dark", False),
        ),
    ),
    Kind(
        "chair",
        "chairs",
        ("to sit on", "that you sit down on at a table"),
        (
            Part("legs", (box(-0.6, 0.2, -0.44, 1), box(0.44, 0.2, 0.6, 1)), "wood"),
            Part("back", (polygon((-0.66, -1), (-0.4, -1), (-0.36, 0.2), (-0.62, 0.2)),)),
            Part("seat", (box(-0.66, -0.02, 0.68, 0.34),)),
        ),
    ),
    Kind(
        "key",
        "keys",
        ("that opens a lock", "to unlock a door with"),
        (
            Part("teeth", (box(0.5, 0.1, 0.66, 0.42), box(0.8, 0.1, 0.96, 0.42))),
            Part("shaft", (box(-0.3, -0.12, 1, 0.12),)),
            Part("bow", (ellipse(-0.58, 0, 0.42, 0.42), ellipse(-0.58, 0, 0.18, 0.18))),
        ),
        free_rotation=True,
    ),
    Kind(
        "hammer",
        "hammers",
        ("that drives nails into wood", "to knock in a nail with"),
        (
            Part("handle", (box(-0.13, -0.5, 0.13, 1),), "wood"),
            Part(
                "head",
                (polygon((-0.75, -0.95), (0.35, -0.95), (0.85, -0.7), (0.85, -0.5), (0.35, -0.4), (-0.75, -0.4)),),
            ),
        ),
        free_rotation=True,
    ),
    Kind(
        "hat",
        "hats",
        ("to wear on your head against the sun", "with a brim that shades your face"),
        (
            Part(
                "crown",
                (smooth((-0.5, 0.35), (-0.48, -0.7), (-0.1, -0.5), (0.1, -0.5), (0.48, -0.7), (0.5, 0.35)),),
            ),
            Part("band", (box(-0.47, 0.02, 0.47, 0.26),), "dark"),
            Part("brim", (ellipse(0, 0.38, 1, 0.2),)),
        ),
    ),
    Kind(
        "shirt",
        "shirts",
        ("with two sleeves", "that is buttoned up and ironed"),
        (
            Part(
                "cloth",
                (
                    polygon(
                        (-0.3, -0.85),
                        (0.3, -0.85),
                        (0.6, -0.75),
                        (1, -0.2),
                        (0.7, 0.05),
                        (0.5, -0.2),
                        (0.5, 0.9),
                        (-0.5, 0.9),
                        (-0.5, -0.2),
                        (-0.7, 0.05),
                        (-1, -0.2),
                        (-0.6, -0.75),
                    ),
                ),
            ),
            Part("collar", (polygon((-0.3, -0.87), (0.3, -0.87), (0, -0.5)),), "cream"),
            Part(
                "buttons",
                (ellipse(0, -0.2, 0.06, 0.06), ellipse(0, 0.15, 0.06, 0.06), ellipse(0, 0.5, 0.06, 0.06)),
                "dark",
                False,
            ),
        ),
    ),
    Kind(
        "crown",
        "crowns",
        ("that a king wears", "that a queen is crowned with"),
        (
            Part(
                "points",
                (polygon((-0.85, 0.35), (-1, -0.6), (-0.5, -0.05), (0, -0.8), (0.5, -0.05), (1, -0.6), (0.85, 0.35)),),
            ),
            Part("band", (box(-0.85, 0.25, 0.85, 0.6),), "shade"),
            Part(
                "jewels",
                tuple(polygon((x - 0.1, 0.42), (x, 0.3), (x + 0.1, 0.42), (x, 0.54)) for x in (-0.5, 0.0, 0.5)),
                "cream",
                False,
            ),
        ),
    ),
    Kind(
        "bell",
        "bells",
        ("that hangs in a church tower", "with a clapper that strikes its rim"),
        (
            Part("clapper", (ellipse(0, 0.82, 0.2, 0.18),), "dark"),
            Part("loop", (ellipse(0, -0.85, 0.2, 0.2), ellipse(0, -0.85, 0.09, 0.09)), "metal"),
            Part(
                "dome",
                (
                    smooth(
                        (-0.3, -0.8),
                        (0.3, -0.8),
                        (0.45, -0.4),
                        (0.5, 0.35),
                        (1.0, 0.8),
                        (-1.0, 0.8),
                        (-0.5, 0.35),
                        (-0.45, -0.4),
                        rounds=2,
                    ),
                ),
            ),
            Part("band", (box(-0.53, 0.2, 0.53, 0.34),), "shade"),
        ),
    ),
    Kind(
        "umbrella",
        "umbrellas",
        ("that keeps the rain off", "to stay dry under in the rain", "that you open when it rains"),
        (
            Part("stick", (stroke([(0, -0.8), (0, 0.2), (0, 0.75), *_hook(0, 0.75, 0.2)[1:]], 0.12),), "dark", False),
            Part(
                "canopy",
                (
                    np.concatenate(
                        [
                            ellipse(0, 0, 1, 0.85, 180, 360),
                            ellipse(0.667, 0, 0.333, 0.18, 0, -180),
                            ellipse(0, 0, 0.333, 0.18, 0, -180),
                            ellipse(-0.667, 0, 0.333, 0.18, 0, -180),
                        ]
                    ),
                ),
            ),
        ),
    ),
    Kind(
        "frame",
        "frames",
        ("that a painting hangs in", "to put a picture in"),
        (
            Part("border", (box(-1, -0.85, 1, 0.85), box(-0.74, -0.59, 0.74, 0.59))),
            Part(
                "corners",
                tuple(box(x - 0.13, y - 0.13, x + 0.13, y + 0.13) for x in (-0.87, 0.87) for y in (-0.72, 0.72)),
                "shade",
            ),
        ),
        hollow=True,
    ),
    Kind(
        "hoop",
        "hoops",
        ("to spin around your waist", "that a circus lion jumps through"),
        (
            Part("ring", (ellipse(0, 0, 1, 1), ellipse(0, 0, 0.76, 0.76))),
            Part("joint", (box(-0.15, 0.7, 0.15, 1.04),), "dark"),
        ),
        hollow=True,
    ),
)
