"""Where weights are: in a folder or file of the user's, or in the Hugging Face hub's cache. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visenv.errors import InvalidData, MissingDependency, MissingWeights

if TYPE_CHECKING:
    from torch import nn

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
"""``owner/name``, and after an ``@`` a branch, tag or commit."""
_TRANSFORMERS_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_EDGE, _SAMPLES, _SAMPLE = 2**20, 64, 2**16


def find_folder(source: str | Path, needs: Sequence[str] = ("config.json",), weights: bool = True) -> Path:
    """The folder of a model in the layout of transformers.

    Args:
        source: a folder, or ``owner/name`` on the hub (``owner/name@revision``), which is looked for in its cache.
        needs: files that must be there.
        weights: whether a file of weights must be there too.

    Raises:
        MissingWeights: saying which file is missing, where it was looked for, and which command fetches it.
    """
    folder, fetch = _folder(source, None)
    missing = [name for name in needs if not (folder / name).is_file()]
    if weights and not any((folder / name).is_file() for name in _TRANSFORMERS_WEIGHTS):
        missing.append(_TRANSFORMERS_WEIGHTS[0])
    if missing:
        raise MissingWeights(f"Expected {' and '.join(missing)} in {folder}, but there is no such file.{fetch}")
    return folder


def find_file(source: str | Path, names: Sequence[str] = (), url: str | None = None) -> Path:
    """The file of a checkpoint.

    Args:
        source: the file, a folder that holds it, or ``owner/name`` on the hub, which is looked for in its cache.
        names: of the file in such a folder, the first one that is there; a file of another name is found if it is the
            only one with the ending of one of these.
        url: from where it can be fetched, if it is not on the hub.

    Raises:
        MissingWeights: saying which file is missing, where it was looked for, and which command fetches it.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.suffix and not path.is_dir() and not _is_hub_id(source):
        fetch = f" Fetch it: curl -L -o {path} {url}" if url else " Name the file, a folder that holds it, or a hub id."
        raise MissingWeights(f"Expected the weights {path}, but there is no such file.{fetch}")
    folder, fetch = _folder(source, url)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    endings = {Path(name).suffix for name in names}
    others = sorted(entry for entry in folder.iterdir() if entry.suffix in endings and entry.is_file())
    if len(others) == 1:
        return others[0]
    found = f"it holds {', '.join(entry.name for entry in others)}" if others else "there is no such file"
    raise MissingWeights(f"Expected {' or '.join(names)} in {folder}, but {found}.{fetch}")


def _is_hub_id(source: str | Path) -> bool:
    return isinstance(source, str) and HUB_ID.fullmatch(source) is not None


def _folder(source: str | Path, url: str | None) -> tuple[Path, str]:
    """The folder that a source means, and how what it lacks is fetched."""
    if not isinstance(source, (str, Path)) or not str(source):
        raise InvalidData(f"Expected a folder, a file or a hub id (owner/name), but got {source!r}.")
    path = Path(source).expanduser()
    fetch = f" Fetch it: {url}" if url else ""
    if path.is_dir():
        return path, fetch
    if not _is_hub_id(source):
        raise MissingWeights(f"Expected a folder of weights at {path}, but there is none.{fetch}")
    name, _, revision = str(source).partition("@")
    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    cached, cache = _cached(name, revision or None)
    if cached is None:
        raise MissingWeights(
            f"Expected the weights of {source} in the hub's cache {cache} (or in a folder {path.absolute()}), but they "
            f"are not there. Fetch them: {command}. Or copy the preset and name a folder of yours as its model."
        )
    return cached, f" Fetch it: {command}"


def _cached(name: str, revision: str | None) -> tuple[Path | None, str]:
    """The snapshot of a repository in the hub's cache, if there is one, and the cache; the network is not asked."""
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependency(
            f"To find {name} in the hub's cache, install huggingface_hub, or name a folder instead."
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True)), constants.HF_HUB_CACHE
    except LocalEntryNotFoundError:
        return None, constants.HF_HUB_CACHE


def files_digest(*paths: Path) -> str:
    """A digest of files, for fingerprints: of names, sizes, both ends, and 64 places in between of each.

    Args:
        *paths: files, or folders whose files (without those in sub-folders) are taken by name.
    """
    digest = hashlib.blake2b(digest_size=8)
    files = [
        file
        for path in paths
        for file in (sorted(e for e in path.iterdir() if e.is_file()) if path.is_dir() else [path])
    ]
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size};".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_EDGE))
            for place in range(_EDGE, max(_EDGE, size - _EDGE), max(_SAMPLE, (size - 2 * _EDGE) // _SAMPLES)):
                stream.seek(place)
                digest.update(stream.read(_SAMPLE))
            stream.seek(max(0, size - _EDGE))
            digest.update(stream.read(_EDGE))
    return digest.hexdigest()


def module_digest(module: nn.Module) -> str:
    """A digest of a model built in memory: of each tensor's name, shape, type and up to 1,024 of its values."""
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        flat = tensor.detach().reshape(-1)
        sampled = flat[:: max(1, flat.numel() // 1024)].to("cpu").contiguous()
        digest.update(sampled.view(torch.uint8).numpy().tobytes() if sampled.numel() else b"")
    return digest.hexdigest()
