import numpy as np
import pytest

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.types import Detections, MaskTruth

SQUARE = Masks.from_boxes(np.array([[0.0, 0, 4, 4]]), (8, 8))


def test_detections_are_brought_into_arrays():
    found = Detections([[0, 0, 4, 4]], SQUARE, labels=["a"])
    assert found.boxes.dtype == np.float64
    assert found.scores.tolist() == [1.0]
    assert found.labels == ("a",)
    assert Detections([]).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    "fields",
    [
        {"boxes": [0, 0, 4, 4, 1, 1, 5, 5]},
        {"boxes": [[0, 0, 4, 4, 1, 1, 5, 5]]},
        {"boxes": [[0, 0, 4, 4]], "scores": [[1.0]]},
        {"boxes": [[0, 0, 4, 4]], "scores": [1.0, 1.0]},
        {"boxes": [[0, 0, 4, 4]] * 2, "masks": SQUARE},
        {"boxes": [[0, 0, 4, 4]], "labels": ("a", "b")},
    ],
)
def test_detections_of_another_shape_are_refused(fields):
    with pytest.raises(InvalidData, match="Expected"):
        Detections(**fields)


@pytest.mark.parametrize(
    ("target", "ignore", "null"),
    [
        (None, None, True),
        (Masks.empty((8, 8)), None, True),
        (SQUARE, None, False),
        (SQUARE, Masks.from_boxes(np.array([[0.0, 0, 4, 3]]), (8, 8)), False),
        (SQUARE, Masks.from_boxes(np.array([[0.0, 0, 8, 4]]), (8, 8)), True),
    ],
)
def test_a_mask_truth_is_null_where_nothing_is_left_to_find(target, ignore, null):
    assert MaskTruth(target, ignore).is_null is null
