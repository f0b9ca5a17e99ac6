"""Models and processors of transformers: found, checked, and read from folders without network or foreign code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visenv.errors import InvalidData, MissingDependency, MissingWeights
from visenv.experts.models.weights import find_folder
from visenv.types import Pixels

if TYPE_CHECKING:
    import torch

EXTRA = "transformers"
"""The extra of visenv that brings the package."""
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
_TEXT_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def find_model(
    source: str | Path,
    model_types: Collection[str] = (),
    *,
    images: bool = True,
    texts: bool = True,
) -> Path:
    """The folder of a model with its processor, in the layout of transformers; nothing large is read.

    Args:
        source: a folder, or ``owner/name`` on the hub, which is looked for in its cache.
        model_types: what ``model_type`` in ``config.json`` may be; anything if empty.
        images: whether the files of an image processor must be there.
        texts: whether the files of a tokenizer must be there.

    Raises:
        MissingWeights: if a file is not there; the message says which, and how to get it.
        InvalidData: if it is a model of another type.
    """
    folder = find_folder(source)
    config = read_json(folder / "config.json")
    found = config.get("model_type")
    if model_types and found not in model_types:
        raise InvalidData(f"Expected a model of the type {' or '.join(model_types)} in {folder}, but got {found!r}.")
    wanted = [f"{' or '.join(_IMAGE_FILES)}"] if images and not _any(folder, _IMAGE_FILES) else []
    wanted += [f"{' or '.join(_TEXT_FILES[:3])}"] if texts and not _any(folder, _TEXT_FILES) else []
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        shards = set(read_json(index).get("weight_map", {}).values())
        wanted += sorted(name for name in shards if not (folder / name).is_file())
    if wanted:
        fetch = f" Fetch it: hf download {str(source).partition('@')[0]}" if not Path(source).exists() else ""
        raise MissingWeights(f"Expected {' and '.join(wanted)} in {folder}, but there is no such file.{fetch}")
    return folder


def model_type(folder: Path) -> str:
    """What ``config.json`` says the model is, such as ``owlv2``; empty if it says nothing."""
    return str(read_json(folder / "config.json").get("model_type") or "")


def read_json(path: Path) -> dict[str, Any]:
    """What a small file of settings holds.

    Raises:
        InvalidData: if it holds no JSON object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidData(f"Expected JSON in {path}, but it cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InvalidData(f"Expected a JSON object in {path}, but got {content!r:.80}.")
    return content


def load_model(kind: Any, folder: Path, dtype: torch.dtype, **keywords: Any) -> Any:
    """Read a model; every weight it has must be in the folder.

    Args:
        kind: its class in transformers, or one of the ``Auto`` classes.
        folder: what ``find_model`` found.
        dtype: the precision to read it in.
        **keywords: further ones of ``from_pretrained``.

    Raises:
        InvalidData: if weights are missing, have another shape, or cannot be read.
    """
    safetensors = any(folder.glob("*.safetensors"))
    with quiet():
        try:
            model, report = kind.from_pretrained(
                str(folder),
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=safetensors,
                weights_only=True,
                output_loading_info=True,
                **keywords,
            )
        except MemoryError:
            raise
        except Exception as error:  # of safetensors, pickle, torch and transformers, which share no class
            raise InvalidData(
                f"Expected weights of {_name(kind)} in {folder}, but they cannot be read: {error}"
            ) from error
    for title, keys in (("are missing", report["missing_keys"]), ("have another shape", report["mismatched_keys"])):
        if keys:
            names = sorted(key if isinstance(key, str) else str(key[0]) for key in keys)
            some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise InvalidData(
                f"Expected all weights of {type(model).__name__} in {folder}, but {len(names)} {title} ({some}). "
                "The files may be incomplete, or of another model than config.json says."
            )
    return model


def load_processor(folder: Path, kinds: Sequence[str] = (), kind: Any = None) -> Any:
    """Read a processor.

    Args:
        folder: what ``find_model`` found.
        kinds: the names of the classes that fit the model; anything if empty.
        kind: the class to read it by; ``AutoProcessor``, which asks the folder, if left out.

    Raises:
        InvalidData: if it is none of these, or cannot be read.
    """
    import transformers

    with quiet():
        try:
            found = (kind or transformers.AutoProcessor).from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # of tokenizers, json and transformers, which share no class
            raise InvalidData(f"Expected a processor in {folder}, but it cannot be read: {error}") from error
    return check_processor(found, kinds, str(folder))


def check_processor(processor: Any, kinds: Sequence[str], where: str) -> Any:
    """The processor, if its class or one it is derived from has one of these names.

    Raises:
        InvalidData: if not: it does not fit the model.
    """
    if kinds and not {each.__name__ for each in type(processor).__mro__} & set(kinds):
        raise InvalidData(
            f"Expected a {' or '.join(kinds)} for the model in {where}, but got a {type(processor).__name__}: model "
            "and processor are of different families. Copy the model's own processor files (*.json, *.txt) next to its "
            "weights."
        )
    return processor


def import_transformers() -> Any:
    """The package.

    Raises:
        MissingDependency: naming the extra.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency(f'This expert needs transformers: pip install "visenv[{EXTRA}]".') from error
    return transformers


def version() -> str:
    """Of transformers, whose processors decide results too: for fingerprints."""
    try:
        return f"transformers-{metadata.version('transformers')}"
    except metadata.PackageNotFoundError as error:
        raise MissingDependency(f'This expert needs transformers: pip install "visenv[{EXTRA}]".') from error


def processor_digest(processor: Any) -> str:
    """Of a processor that a user has built: of its settings, and of the words its tokenizer knows."""
    digest = hashlib.blake2b(digest_size=8)
    image = getattr(processor, "image_processor", processor)
    digest.update(json.dumps(image.to_dict(), sort_keys=True, default=str).encode() if image is not None else b"")
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is not None:
        digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    return digest.hexdigest()


def channels_first(pixels: Pixels) -> torch.Tensor:
    """An image as processors take it without guessing which axis is which (of 1x300 or 3x3 pixels they guess wrong).

    Args:
        pixels: (H, W, 3) uint8.

    Returns:
        (3, H, W) uint8, a copy; pass ``input_data_format="channels_first"`` with it.
    """
    import torch

    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and the reports that transformers writes while it reads files."""
    from transformers.utils import logging as reports

    bars, level = reports.is_progress_bar_enabled(), reports.get_verbosity()
    reports.disable_progress_bar()
    reports.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()


def _any(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))
