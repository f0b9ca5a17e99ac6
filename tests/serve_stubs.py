"""Experts that are served in tests: what they do is written in the phrase that they are asked for."""

import os
import time
from pathlib import Path

from process_stubs import ObedientExpert


class ServedStub(ObedientExpert):
    """Besides what ``ObedientExpert`` does:

    - ``wait FILE``: writes its process into FILE, and waits until FILE.go is there;
    - ``once-hang FILE``, ``once-die FILE``: hangs or dies if FILE is not there yet, which it is from then on.
    """

    name = "stub"
    fingerprint = "stub-1"

    def run(self, requests):
        for request in requests:
            what, _, argument = getattr(request, "phrase", "").partition(" ")
            if what == "wait":
                Path(argument).write_text(str(os.getpid()))
                while not Path(argument + ".go").exists():
                    time.sleep(0.02)
            elif what.startswith("once-") and not Path(argument).exists():
                Path(argument).touch()
                if what == "once-hang":
                    time.sleep(3600)
                os._exit(3)
        return super().run(requests)


class OtherStub(ServedStub):
    name = "other"
    fingerprint = "other-1"
    capabilities = ("PointPhrase",)
