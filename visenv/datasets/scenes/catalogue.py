"""The kinds of objects: of which parts each is drawn, and the words for it.

A part painted ``main`` carries the colour that a query names; the others have the colour of their material.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visenv.datasets.scenes.shapes import Outline, box, ellipse, petals, polygon, smooth, star, stroke


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a drawing, painted over the parts before it."""

    name: str
    outlines: tuple[Outline, ...]
    """Filled by the even-odd rule: an outline inside another is a hole."""
    fill: str = "main"
    """``main``, ``shade`` or ``tint`` of the object's colour, or a material."""
    edged: bool = True
    """Whether it gets the thin dark edge; lines too thin for one do not."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of object, its drawing and its words."""

    name: str
    plural: str
    purposes: tuple[str, ...]
    """Phrases that say what it is for, each to follow "something" or "the thing"."""
    parts: tuple[Part, ...]
    free_rotation: bool = False
    """Whether it may lie at any angle; other kinds stand roughly upright."""
    hollow: bool = False
    """Whether things can be inside of it."""


def _sway(x: float, y0: float, y1: float, reach: float) -> list[tuple[float, float]]:
    heights = np.linspace(y0, y1, 12)
    return [(float(x + reach * np.sin((y - y0) / (y1 - y0) * 2 * np.pi)), float(y)) for y in heights]


def _hook(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    angles = np.radians(np.linspace(0, 180, 9))
    return [(float(x - radius + radius * np.cos(a)), float(y + radius * np.sin(a))) for a in angles]


_CATALOGUE = (
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
        "car",
        "cars",
        ("that drives on the road", "to drive to work in"),
        (
            Part(
                "body",
                (
                    smooth(
                        (-1, 0.3), (-1, -0.1), (-0.6, -0.15), (-0.4, -0.6), (0.35, -0.6), (0.6, -0.12), (1, 0), (1, 0.3)
                    ),
                ),
            ),
            Part("window", (polygon((-0.35, -0.42), (0.27, -0.42), (0.45, -0.14), (-0.48, -0.14)),), "glass"),
            Part("back wheel", (ellipse(-0.52, 0.3, 0.22, 0.22),), "dark"),
            Part("front wheel", (ellipse(0.52, 0.3, 0.22, 0.22),), "dark"),
        ),
    ),
    Kind(
        "house",
        "houses",
        ("that a family lives in", "to live in"),
        (
            Part("chimney", (box(0.35, -0.95, 0.6, -0.3),), "brick"),
            Part("wall", (box(-0.75, -0.2, 0.75, 0.95),)),
            Part("roof", (polygon((-1, -0.15), (0, -1), (1, -0.15)),), "shade"),
            Part("door", (box(-0.2, 0.35, 0.2, 0.95),), "wood"),
            Part("window", (box(0.36, 0.05, 0.62, 0.35),), "glass"),
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
        "fish",
        "fish",
        ("that swims under water", "that breathes with gills"),
        (
            Part("tail", (polygon((0.45, 0), (1, -0.5), (0.85, 0), (1, 0.5)),), "shade"),
            Part("fin", (polygon((-0.3, -0.3), (0.2, -0.75), (0.3, -0.25)),), "shade"),
            Part("body", (ellipse(-0.22, 0, 0.78, 0.46),)),
            Part("eye", (ellipse(-0.65, -0.1, 0.08, 0.08),), "dark", False),
        ),
    ),
    Kind(
        "tree",
        "trees",
        ("with a trunk and branches", "that birds build nests in"),
        (
            Part("trunk", (polygon((-0.13, 0.1), (0.13, 0.1), (0.2, 1), (-0.2, 1)),), "wood"),
            Part("crown", (petals(7, 0.72, 0.2) - np.array([0, 0.3]),)),
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
        "boat",
        "boats",
        ("that sails across a lake", "to cross the water in"),
        (
            Part("mast", (box(-0.06, -1, 0.06, 0.5),), "wood", False),
            Part("sail", (polygon((0.1, -0.92), (0.85, 0.3), (0.1, 0.3)),), "cream"),
            Part("hull", (polygon((-1, 0.4), (1, 0.4), (0.62, 0.95), (-0.68, 0.95)),)),
            Part("jib", (polygon((-0.1, -0.75), (-0.1, 0.3), (-0.7, 0.3)),)),
        ),
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
        "leaf",
        "leaves",
        ("that trees shed in autumn", "to rake up in autumn"),
        (
            Part("stalk", (stroke([(0, 0.5), (0.02, 0.75), (0.08, 1)], 0.1),), "wood", False),
            Part("blade", (smooth((0, -1.15), (0.62, -0.25), (0.42, 0.5), (0, 0.8), (-0.42, 0.5), (-0.62, -0.25)),)),
            Part("vein", (stroke([(0, -0.7), (0, 0), (0, 0.6)], 0.06),), "shade", False),
        ),
        free_rotation=True,
    ),
    Kind(
        "star",
        "stars",
        ("for the top of a Christmas tree", "that twinkles in the night sky"),
        (Part("points", (star(5, 1.0, 0.42),)), Part("middle", (ellipse(0, 0, 0.22, 0.22),), "tint")),
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
        "apple",
        "apples",
        ("to bake a pie from", "that is pressed into cider"),
        (
            Part("stem", (stroke([(0, -0.45), (0.03, -0.75), (0.12, -1)], 0.13),), "wood", False),
            Part("leaf", (smooth((0.08, -0.62), (0.35, -1), (0.7, -0.9), (0.45, -0.6)),), "leaf"),
            Part(
                "body",
                (
                    smooth(
                        (0, -0.38),
                        (0.5, -0.72),
                        (0.92, -0.3),
                        (0.75, 0.65),
                        (0.25, 0.95),
                        (0, 0.82),
                        (-0.25, 0.95),
                        (-0.75, 0.65),
                        (-0.92, -0.3),
                        (-0.5, -0.72),
                    ),
                ),
            ),
        ),
    ),
    Kind(
        "balloon",
        "balloons",
        ("that bursts when you prick it", "to blow up for a party"),
        (
            Part("string", (stroke(_sway(0, 0.25, 1.0, 0.08), 0.09),), "dark", False),
            Part("knot", (polygon((0, 0.15), (0.13, 0.36), (-0.13, 0.36)),), "shade"),
            Part(
                "bubble",
                (
                    smooth(
                        (0, -1.1),
                        (0.62, -0.85),
                        (0.62, -0.2),
                        (0.12, 0.28),
                        (-0.12, 0.28),
                        (-0.62, -0.2),
                        (-0.62, -0.85),
                    ),
                ),
            ),
            Part("shine", (ellipse(-0.2, -0.62, 0.09, 0.15),), "tint", False),
        ),
    ),
    Kind(
        "mushroom",
        "mushrooms",
        ("that grows from spores", "with a cap that is picked in the woods"),
        (
            Part("stem", (smooth((-0.2, -0.1), (0.2, -0.1), (0.26, 0.95), (-0.26, 0.95)),), "cream"),
            Part("cap", (ellipse(0, 0.08, 0.95, 0.95, 180, 360),)),
            Part("gills", (ellipse(0, 0.06, 0.93, 0.15),), "cream"),
        ),
    ),
    Kind(
        "anchor",
        "anchors",
        ("that holds a ship in place", "that a sailor drops to the sea bed"),
        (
            Part("eye", (ellipse(0, -0.78, 0.22, 0.22), ellipse(0, -0.78, 0.1, 0.1)), "metal"),
            Part("stock", (box(-0.5, -0.5, 0.5, -0.3),), "metal"),
            Part("shank", (box(-0.11, -0.6, 0.11, 0.8),)),
            Part("arms", (np.concatenate([ellipse(0, 0.1, 0.9, 0.88, 5, 175), ellipse(0, 0.1, 0.62, 0.58, 175, 5)]),)),
            Part(
                "flukes",
                (polygon((0.5, 0.2), (1.05, 0.3), (0.9, -0.25)), polygon((-0.5, 0.2), (-1.05, 0.3), (-0.9, -0.25))),
            ),
        ),
        free_rotation=True,
    ),
    Kind(
        "rocket",
        "rockets",
        ("that flies to the moon", "that carries astronauts into space"),
        (
            Part("flame", (polygon((-0.16, 0.6), (0.16, 0.6), (0, 1)),), "brick"),
            Part(
                "fins",
                (polygon((-0.2, 0.05), (-0.62, 0.75), (-0.2, 0.62)), polygon((0.2, 0.05), (0.62, 0.75), (0.2, 0.62))),
                "dark",
            ),
            Part(
                "hull",
                (
                    smooth(
                        (0, -1.15), (0.3, -0.6), (0.32, 0.3), (0.25, 0.68), (-0.25, 0.68), (-0.32, 0.3), (-0.3, -0.6)
                    ),
                ),
            ),
            Part("porthole", (ellipse(0, -0.3, 0.13, 0.13),), "glass"),
        ),
        free_rotation=True,
    ),
    Kind(
        "kite",
        "kites",
        ("to fly in the wind on a line", "that a child flies on a windy day"),
        (
            Part("tail", (stroke(_sway(0, 0.3, 1.0, 0.14), 0.09),), "dark", False),
            Part("bows", (polygon((-0.2, 0.6), (0.2, 0.8), (0.2, 0.6), (-0.2, 0.8)),), "shade", False),
            Part("sail", (polygon((0, -1), (0.62, -0.4), (0, 0.4), (-0.62, -0.4)),)),
            Part(
                "spar",
                (box(-0.035, -0.95, 0.035, 0.35), box(-0.57, -0.43, -0.035, -0.37), box(0.035, -0.43, 0.57, -0.37)),
                "wood",
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
        "butterfly",
        "butterflies",
        ("that a caterpillar turns into", "that flutters from blossom to blossom"),
        (
            Part(
                "upper wings",
                tuple(smooth((s * 0.04, 0.0), (s * 0.3, -0.75), (s * 1.15, -0.85), (s * 0.85, 0.1)) for s in (-1, 1)),
            ),
            Part(
                "lower wings",
                tuple(smooth((s * 0.04, -0.05), (s * 0.8, -0.02), (s * 0.8, 0.75), (s * 0.25, 0.7)) for s in (-1, 1)),
                "shade",
            ),
            Part("body", (ellipse(0, 0, 0.1, 0.58),), "dark"),
        ),
        free_rotation=True,
    ),
    Kind(
        "flower",
        "flowers",
        ("that bees collect nectar from", "to give in a bunch on Mother's Day"),
        (
            Part("stalk", (stroke([(0, -0.2), (0.03, 0.4), (0, 1)], 0.1),), "leaf", False),
            Part("leaf", (smooth((0.02, 0.75), (0.3, 0.3), (0.65, 0.3), (0.4, 0.75)),), "leaf"),
            Part("petals", (petals(5, 0.62, 0.5) - np.array([0, 0.38]),)),
            Part("centre", (ellipse(0, -0.38, 0.17, 0.17),), "cream"),
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
        "cactus",
        "cactuses",
        ("that grows in the desert", "with spines that hardly needs water"),
        (
            Part("pot", (polygon((-0.5, 0.5), (0.5, 0.5), (0.36, 1), (-0.36, 1)),), "brick"),
            Part(
                "arms",
                (
                    polygon((-0.75, -0.4), (-0.5, -0.4), (-0.5, -0.02), (-0.2, -0.02), (-0.2, 0.22), (-0.75, 0.22)),
                    polygon((0.2, -0.2), (0.5, -0.2), (0.5, -0.62), (0.75, -0.62), (0.75, 0.05), (0.2, 0.05)),
                ),
            ),
            Part("stem", (smooth((-0.28, 0.55), (-0.28, -1.05), (0.28, -1.05), (0.28, 0.55)),)),
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

KINDS: dict[str, Kind] = {kind.name: kind for kind in _CATALOGUE}
"""Every kind of object, by name."""
