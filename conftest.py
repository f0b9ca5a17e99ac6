"""Adapters whose packages are not installed are left out: sessions of their own test them (``noxfile.py``)."""

from importlib.util import find_spec

_NEEDS = {"openenv": "visenv/adapters/openenv", "verifiers": "visenv/adapters/verifiers.py"}
collect_ignore = [path for package, path in _NEEDS.items() if find_spec(package) is None]
