"""Recorded episodes as training sets: what is good enough, turn by turn, with the very pictures that each turn saw.

``export_run`` makes a set of a run, ``Filters`` say what of it is kept, and ``load_set`` reads one for a trainer.
"""

from visenv.export.exporting import export_run
from visenv.export.loading import load_set
from visenv.export.replaying import ReplayError
from visenv.export.selecting import Filters

__all__ = ["Filters", "ReplayError", "export_run", "load_set"]
