"""What an episode is worth: pure functions, published rewards made of them, and metrics over many samples.

``visenv.rewards.functional`` holds plain functions on arrays, run-length encodings and text;
``visenv.rewards.visharness`` the reward of VisHarness, for its environments and as the ``compute_score`` of its
release; ``visenv.rewards.metrics`` the figures that papers report. Ten more published rewards are a module each:
``rsagent``, ``medsam_agent``, ``visual_arft``, ``imagent``, ``seg_zero``, ``vision_reasoner``, ``vlm_r1``,
``deepeyes``, ``mmsearch_r1`` and ``pixel_reasoner``; those of several terms return them by name, and their sum is the
reward. Nothing here needs an environment, a model or a trainer.
"""
