"""Draw the README's picture: one episode of the scripted policy on a generated scene, turn by turn.

    python scripts/make_readme_figure.py [--index N] [--out docs/images/trajectory.png]

Nothing in it is arranged: the calls, the replies, the pictures and the reward are those of the episode.
"""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from visenv.env import VisionToolEnv  # noqa: E402 - after the path, so that it is this checkout's
from visenv.episode import Episode  # noqa: E402
from visenv.images import letterbox  # noqa: E402
from visenv.policies import make_policy  # noqa: E402
from visenv.records import tool_of  # noqa: E402
from visenv.types import Answer, Pixels, ToolCall, Turn  # noqa: E402
from visenv.wrappers.snapshots import truth_snapshot  # noqa: E402
from visenv.wrappers.text import vision_env  # noqa: E402

ENV_ID = "VisHarness/GRefSeg-v0"
DIFFICULTY = 2
INDEX = 83
COLUMNS = 4
SIDE = 336
"""Pixels of a side of each panel's picture."""
MARGIN = 18
CAPTION = 118
"""Pixels of a panel's height above its picture."""
SMALLEST = 16
"""Pixels of the smallest text."""
COLOURS = 256
"""Of the palette: flat panels and textured pictures look the same with it and take a third of the bytes."""
INK, GREY, ACCENT, PAPER, CARD = "#1b1f24", "#59636e", "#0b62c4", "#eef1f5", "#ffffff"


@dataclass(frozen=True)
class Panel:
    """One step of the episode."""

    title: str
    call: str
    reply: str
    picture: Pixels


def main() -> None:
    """Run the episode and write the picture."""
    parser = argparse.ArgumentParser(description="Draw the README's picture.")
    parser.add_argument("--index", type=int, default=INDEX, help="which sample of the split val")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "trajectory.png")
    arguments = parser.parse_args()
    env = vision_env(gym.make(ENV_ID, split="val", difficulty=DIFFICULTY))
    end = play(env, arguments.index)
    figure = draw(panels(env.episode, end))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.save(arguments.out, optimize=True)
    print(f"{arguments.out}: {figure.width}x{figure.height}, {arguments.out.stat().st_size / 1000:.0f} kB")


def play(env: VisionToolEnv, index: int) -> dict[str, float]:
    """Let the scripted policy solve one sample; its reward and metrics."""
    policy = make_policy("scripted")
    _, info = env.reset(options={"index": index})
    policy.reset(env, np.random.SeedSequence(0))
    reward, ended = 0.0, False
    while not ended:
        _, paid, terminated, truncated, info = env.step(policy.act(env.episode))
        reward, ended = reward + float(paid), terminated or truncated
    if env.episode.problem is not None:
        raise SystemExit(f"No picture: the episode is invalid. {env.episode.problem}")
    return {"reward": reward, **info["metrics"]}


def panels(episode: Episode, end: dict[str, float]) -> list[Panel]:
    """One panel for the task, one for each turn with a picture, one for the end, one for the truth."""
    shown = [shown.picture for shown in episode.pictures()]
    made = [Panel("Task", f'"{episode.query}"', "A picture and a query.", shown.pop(0).pixels)]
    unpictured: list[Turn] = []
    for turn in episode.transcript:
        pictures = [shown.pop(0) for _ in turn.shown]
        if isinstance(turn.action, Answer):
            reply = f"Reward {end['reward']:+.2f} of +5.00, IoU {end['gIoU']:.2f}"
            title, call = title_of([*unpictured, turn]), f'"{turn.action.text}"'
            made.append(Panel(title, call, reply, episode.newest_picture().pixels))
        elif not pictures:
            unpictured.append(turn)
        else:
            overview = pictures[:1] if turn.created else pictures
            picture = montage([picture.pixels for picture in overview])
            made.append(Panel(title_of([*unpictured, turn]), call_of(turn), reply_of(turn, episode), picture))
            unpictured = []
    truth = truth_snapshot(episode)
    if truth is not None:
        made.append(Panel("Truth", "What the result is scored against.", "No tool and no expert sees it.", truth))
    return made


def title_of(turns: Sequence[Turn]) -> str:
    """The numbers and tools of the turns of one panel."""
    return " · ".join(f"{turn.index} {tool_of(turn.action)}" for turn in turns)


def call_of(turn: Turn) -> str:
    """A call's arguments in short; of many images, how many there are."""
    arguments = turn.action.arguments if isinstance(turn.action, ToolCall) else {}
    return ", ".join(short(value) for value in arguments.values())


def short(value: Any) -> str:
    """A value of an argument."""
    if isinstance(value, list):
        return str(value[0]) if len(value) == 1 else f"{len(value)} images"
    if isinstance(value, dict):
        return ", ".join(f"{name} by {size} px" for name, size in value.items())
    return f'"{value}"'


def reply_of(turn: Turn, episode: Episode) -> str:
    """What a turn came to, in a line."""
    if turn.created:
        return f"{len(turn.created)} overlapping patches, enlarged next"
    arguments = turn.action.arguments if isinstance(turn.action, ToolCall) else {}
    first = turn.reply.partition(":")[2].partition(":")[0].partition(".")[0].strip()
    return f"on {len(arguments['images'])} patches" if len(arguments["images"]) > 1 else first


def montage(pictures: Sequence[Pixels]) -> Pixels:
    """Several pictures in rows, one alone as it is."""
    if len(pictures) == 1:
        return pictures[0]
    across = math.ceil(math.sqrt(len(pictures)))
    tile, gap = SIDE // across, 3
    sheet = np.full((math.ceil(len(pictures) / across) * tile - gap, across * tile - gap, 3), 255, np.uint8)
    for index, pixels in enumerate(pictures):
        y, x = (part * tile for part in divmod(index, across))
        sheet[y : y + tile - gap, x : x + tile - gap] = on_white(pixels, tile - gap)
    return sheet


def on_white(pixels: Pixels, side: int) -> Pixels:
    """A picture in a square whose rest is white."""
    square, scale, (x, y) = letterbox(pixels, side)
    inside = np.zeros((side, side), dtype=bool)
    inside[y : y + round(pixels.shape[0] * scale), x : x + round(pixels.shape[1] * scale)] = True
    square[~inside] = 255
    return square


def draw(shown: Sequence[Panel]) -> Image.Image:
    """The panels as cards in rows."""
    wide, high = SIDE + 2 * MARGIN, SIDE + CAPTION + MARGIN
    rows = math.ceil(len(shown) / COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * (wide + MARGIN) + MARGIN, rows * (high + MARGIN) + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    for index, panel in enumerate(shown):
        row, column = divmod(index, COLUMNS)
        x, y = MARGIN + column * (wide + MARGIN), MARGIN + row * (high + MARGIN)
        pen.rounded_rectangle((x, y, x + wide, y + high), 14, fill=CARD, outline="#d5dae0", width=2)
        text(pen, (x + MARGIN, y + 16), panel.title, 21, ACCENT, bold=True)
        text(pen, (x + MARGIN, y + 48), panel.call, 20, INK)
        text(pen, (x + MARGIN, y + 78), panel.reply, 20, GREY)
        canvas.paste(Image.fromarray(on_white(panel.picture, SIDE)), (x + MARGIN, y + CAPTION))
    return with_palette(canvas)


def with_palette(canvas: Image.Image) -> Image.Image:
    """The picture in ``COLOURS`` colours, chosen half by how often a colour stands in it and half by how different."""
    pixels = np.asarray(canvas).reshape(-1, 3)
    different = np.unique(pixels >> 3, axis=0) << 3
    often = pixels[:: max(1, len(pixels) // len(different))]
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 20, 0.0)
    points = np.concatenate([different, often]).astype(np.float32)
    _, _, centres = cv2.kmeans(points, COLOURS - 1, np.empty(0), stop, 1, cv2.KMEANS_PP_CENTERS)
    palette = Image.new("P", (1, 1))
    palette.putpalette([255, 255, 255, *np.rint(centres).astype(int).ravel().tolist()])
    return canvas.quantize(palette=palette, dither=Image.Dither.NONE)


def text(pen: ImageDraw.ImageDraw, at: tuple[int, int], words: str, size: int, colour: str, bold: bool = False) -> None:
    """A line of text, in a smaller size where it would leave its card, and cut where that is not enough."""
    font = ImageFont.load_default(size)
    while pen.textlength(words, font) > SIDE and size > SMALLEST:
        size -= 1
        font = ImageFont.load_default(size)
    fits = next(n for n in range(len(words), 0, -1) if pen.textlength(words[:n], font) <= SIDE)
    line = words if fits == len(words) else textwrap.shorten(words, fits, placeholder=" …")
    for shift in (
        (0, 1) if bold else (0,)
    ):  # a stroke of under a pixel is too new for the oldest Pillow that is supported
        pen.text((at[0] + shift, at[1]), line, colour, font)


if __name__ == "__main__":
    main()
