"""Adapters whose packages are not installed are left out: sessions of their own test them (``noxfile.py``)."""

from importlib.util import find_spec

_NEEDS = {
    "gem": "visenv/adapters/gem.py",
    "openenv": "visenv/adapters/openenv",
    "skyrl_gym": "visenv/adapters/skyrl.py",
    "verifiers": "visenv/adapters/verifiers.py",
}
collect_ignore = [path for package, path in _NEEDS.items() if find_spec(package) is None]
