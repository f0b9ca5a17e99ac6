"""Questions that only several pictures together answer, generated."""

from visenv.datasets.several.dataset import SeveralDataset, make
from visenv.datasets.several.forms import FORMS

__all__ = ["FORMS", "SeveralDataset", "make"]
