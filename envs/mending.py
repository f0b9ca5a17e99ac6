"""Programs that mend pictures: what discrete actions of MATCoding choose from, and what its policies write."""

from __future__ import annotations

from collections.abc import Iterable

_READ = "import cv2\nimport numpy as np\n\nimage = cv2.imread('input.png')\n"
_WRITE = "cv2.imwrite('output.png', image)\n"
STEPS: dict[str, str] = {
    "turn left": "image = cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)\n",
    "turn around": "image = cv2.rotate(image, cv2.ROTATE_180)\n",
    # What is nearly the brightest, or the darkest, is taken to be white, or black.
    "brighten": "image = np.clip(image * (250 / max(1, np.percentile(image, 99.8))), 0, 255).astype(np.uint8)\n",
    "darken": (
        "rest = 255.0 - image\nimage = np.clip(255 - rest * (250 / max(1, np.percentile(rest, 99.8))), 0, 255)\n"
        "image = image.astype(np.uint8)\n"
    ),
    # Richardson's and Lucy's: what, blurred, would look like this?
    "sharpen": (
        "blurred = image + 1.0\nimage = blurred.copy()\nfor _ in range(20):\n"
        "    image *= cv2.GaussianBlur(blurred / cv2.GaussianBlur(image, (0, 0), 1.4), (0, 0), 1.4)\n"
        "image = np.clip(image - 1, 0, 255).astype(np.uint8)\n"
    ),
    "denoise": "image = cv2.bilateralFilter(cv2.GaussianBlur(image, (0, 0), 0.8), 7, 60, 3)\n",
    # Whatever is not of the colour of the corner in which the frame is widest.
    "crop": (
        "corners = image[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)\n"
        "frame = max(corners.tolist(), key=corners.tolist().count)\n"
        "rows, columns = np.nonzero((np.abs(image.astype(int) - frame) > 3).any(axis=2))\n"
        "if len(rows):\n"
        "    image = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]\n"
    ),
}
"""By name, what is done between reading and writing; ``image`` is BGR, uint8."""
REPAIRS: dict[str, str] = {
    "rotation90": "turn left",
    "rotation180": "turn around",
    "dark": "brighten",
    "overexposure": "darken",
    "blur": "sharpen",
    "noise": "denoise",
    "crop": "crop",
}
"""Which step puts which problem right."""
FIRST = ("crop", "dark", "overexposure", "noise", "blur", "rotation90", "rotation180")
"""In which order problems are put right: a frame is found while its colour is even."""


def program(steps: Iterable[str]) -> str:
    """A program of some of ``STEPS``.

    Example:
        >>> print(program(["turn around"]), end="")
        # turn around
        import cv2
        import numpy as np
        <BLANKLINE>
        image = cv2.imread('input.png')
        image = cv2.rotate(image, cv2.ROTATE_180)
        cv2.imwrite('output.png', image)
    """
    names = list(steps)
    return "".join([f"# {', '.join(names) or 'as it is'}\n", _READ, *(STEPS[name] for name in names), _WRITE])


def repair(problems: Iterable[str]) -> str:
    """A program that puts problems right, as far as it can."""
    given = set(problems)
    return program(REPAIRS[name] for name in FIRST if name in given)


def discrete_programs() -> tuple[str, ...]:
    """The sixteen programs that discrete actions choose from: each step, and some after which a picture is turned."""
    alone = [(name,) for name in STEPS]
    others = [name for name in STEPS if not name.startswith("turn")]
    turned = [(other, turn) for turn in ("turn left", "turn around") for other in others]
    # Sixteen are due; cropping and turning around takes two of them, one after the other.
    return tuple(program(steps) for steps in [*alone, *turned][:16])
