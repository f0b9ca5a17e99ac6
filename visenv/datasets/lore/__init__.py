"""An invented country, told of in documents, whose flags show the things that generated scenes picture."""

from visenv.datasets.lore.documents import documents
from visenv.datasets.lore.questions import LoreDataset, make
from visenv.datasets.lore.world import Thing, Town, all_things, world

__all__ = ["LoreDataset", "Thing", "Town", "all_things", "documents", "make", "world"]
