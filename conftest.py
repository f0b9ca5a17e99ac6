"""Adapters whose packages are not installed are left out: sessions of their own test them (``noxfile.py``).

So is, where there is no Linux, the example of the sandbox, which is Linux's.
"""

import platform
from importlib.util import find_spec

_NEEDS = {
    "visenv/adapters/gem.py": "gem",
    "visenv/adapters/nemo_gym.py": "nemo_gym",
    "visenv/adapters/nemo_gym_agent.py": "nemo_gym",
    "visenv/adapters/openenv": "openenv",
    "visenv/adapters/rllib.py": "tree",
    "visenv/adapters/skyrl.py": "skyrl_gym",
    "visenv/adapters/verifiers.py": "verifiers",
    "visenv/adapters/verl/loop.py": "verl",
    "visenv/adapters/verl/tools.py": "verl",
}
collect_ignore = [path for path, package in _NEEDS.items() if find_spec(package) is None]
if platform.system() != "Linux":
    collect_ignore.append("visenv/experts/sandbox/expert.py")
