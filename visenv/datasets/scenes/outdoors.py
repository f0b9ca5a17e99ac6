"""The kinds of objects that are found out of doors."""

from __future__ import annotations

import numpy as np

from visenv.datasets.scenes.parts import Kind, Part
from visenv.datasets.scenes.shapes import box, ellipse, petals, polygon, smooth, star, stroke


def _sway(x: float, y0: float, y1: float, reach: float) -> list[tuple[float, float]]:
    heights = np.linspace(y0, y1, 12)
    return [(float(x + reach * np.sin((y - y0) / (y1 - y0) * 2 * np.pi)), float(y)) for y in heights]


OUTDOORS = (
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
)
