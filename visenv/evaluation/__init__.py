"""Evaluations that survive: episodes written down one by one, by any number of processes, and figures over them.

``EvalConfig`` says what is evaluated, ``evaluate`` plays it (and goes on where a run was stopped), ``begin`` only
settles it, ``work`` is what a process or a Ray task does for its part, ``score`` makes the report from what was
written, and ``compare`` puts two runs side by side, sample by sample.
"""

from visenv.evaluation.comparison import compare
from visenv.evaluation.config import EvalConfig
from visenv.evaluation.running import begin, evaluate
from visenv.evaluation.scoring import score
from visenv.evaluation.store import Run
from visenv.evaluation.working import work

__all__ = ["EvalConfig", "Run", "begin", "compare", "evaluate", "score", "work"]
