"""visenv: segmentation, detection and counting as environments in which an agent calls vision experts."""

from pathlib import Path

__version__ = "0.1.0"

_folder = Path(__file__).resolve().parent
# In a checkout, envs, experts and rewards are symbolic links; where git made text files of them, look one folder up.
if not (_folder / "envs").is_dir() and (_folder.parent / "setup.cfg").is_file():
    __path__.append(str(_folder.parent))

from visenv.builtin import register_all  # noqa: E402 - after __path__, which it may need

register_all()
