"""These tests share the stand-ins of ``tests/`` and run in environments of their own: see ``noxfile.py``."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "visenv", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("visenv")
