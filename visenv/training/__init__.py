"""Training an agent on the numbers that an environment shows, from the first step to the report.

``TrainConfig`` says what is trained, ``train`` trains it (and goes on where a run was stopped), ``evaluate`` compares
it with the policies that need no training, and ``TrainedPolicy`` plays it.
"""

from visenv.training.config import ALGORITHMS, TrainConfig
from visenv.training.evaluation import evaluate
from visenv.training.learning import one_thread_each, train
from visenv.training.trained import TrainedPolicy

__all__ = ["ALGORITHMS", "TrainConfig", "TrainedPolicy", "evaluate", "one_thread_each", "train"]
