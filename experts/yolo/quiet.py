"""Importing ultralytics so that nothing but its code comes along.

As it is, its import asks a name server whether there is a network, makes a folder and a file of settings in the user's
home, has OpenCV run on one thread, replaces ``PIL.Image.open`` and ``torch.save``, changes how arrays are printed, and
sets variables of the environment. Here it finds itself offline and its settings in a folder that is gone afterwards,
and what it changed is put back. Where a program has imported it before, nothing is changed at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from types import ModuleType

from visenv.errors import MissingDependency

_lock = threading.RLock()


def import_tasks() -> ModuleType:
    """The module ``ultralytics.nn.tasks``.

    Raises:
        MissingDependency: naming the extra, if it is not there.
    """
    with _lock:
        if "ultralytics" in sys.modules:
            return _tasks()
        with _nothing_changed(), _offline(), tempfile.TemporaryDirectory() as folder:
            os.environ.setdefault("YOLO_CONFIG_DIR", folder)
            return _tasks()


def _tasks() -> ModuleType:
    try:
        # What is needed later is imported here too: each of them may touch something.
        import ultralytics.data.augment
        import ultralytics.nn.tasks
        import ultralytics.utils.nms  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f'YOLO experts need ultralytics: pip install "visenv[yolo]" ({error}).') from error
    return ultralytics.nn.tasks


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """No look at the network, no installing, and no word about new settings."""
    before, quiet = dict(os.environ), logging.root.manager.disable
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(quiet)
        # One by one: other threads read them meanwhile.
        for name in [name for name in os.environ if name not in before]:
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


@contextlib.contextmanager
def _nothing_changed() -> Iterator[None]:
    """Put back what an import changes of other packages."""
    import cv2
    import numpy as np
    import torch
    import torch._tensor_str
    from PIL import Image

    threads, printing = cv2.getNumThreads(), np.get_printoptions()
    tensors = vars(torch._tensor_str.PRINT_OPTS).copy()
    opened, saved = Image.open, torch.save
    functions = {name: getattr(cv2, name) for name in ("imread", "imwrite", "imshow") if hasattr(cv2, name)}
    with warnings.catch_warnings():
        try:
            yield
        finally:
            cv2.setNumThreads(threads)
            np.set_printoptions(**printing)
            vars(torch._tensor_str.PRINT_OPTS).update(tensors)
            Image.open, torch.save = opened, saved
            for name, function in functions.items():
                setattr(cv2, name, function)
