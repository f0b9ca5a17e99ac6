"""What an episode is worth: pure functions, published rewards made of them, and metrics over many samples.

``visenv.rewards.functional`` holds plain functions on arrays, run-length encodings and text;
``visenv.rewards.visharness`` the reward of VisHarness, for its environments and as the ``compute_score`` of its
release; ``visenv.rewards.metrics`` the figures that papers report. Nothing here needs an environment, a model or a
trainer.
"""
