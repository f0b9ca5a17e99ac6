"""The bank of silhouettes is what its script builds from the drawings."""

import importlib.util
from pathlib import Path

import numpy as np

from visenv.experts.classical import shape

ROOT = Path(__file__).parents[1]


def test_the_stored_bank_is_what_the_script_builds():
    spec = importlib.util.spec_from_file_location("build_silhouettes", ROOT / "scripts" / "build_silhouettes.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    built = script.build()
    with np.load(Path(shape.__file__).parent / shape.BANK_FILE, allow_pickle=False) as stored:
        assert set(stored.files) == set(built)
        for name in ("owners", "free", "cut", "names"):
            np.testing.assert_array_equal(stored[name], built[name])
        # Drawings may differ by a rounding from one version of OpenCV to the next.
        difference = np.abs(stored["maps"].astype(int) - built["maps"].astype(int))
    assert difference.mean() < 2
