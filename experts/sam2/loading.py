"""Finding a checkpoint of SAM 2 and building the network that it is of."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData, MissingDependency
from visenv.experts.models.weights import find_file

CHECKPOINTS = {
    f"facebook/sam{version}-hiera-{size.replace('_', '-')}": f"sam{version}_hiera_{size}.pt"
    for version in ("2.1", "2")
    for size in ("tiny", "small", "base_plus", "large")
}
"""Hub id to the file that it holds."""
URL = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"
"""Where the files of SAM 2.1 are published beside the hub."""
_SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}
"""Width and number of blocks of the published image encoders, and how their configurations are called."""
_TRAINING_ONLY = ("memory_attention", "memory_encoder")


def find_checkpoint(source: str | Path) -> Path:
    """The file of a checkpoint: itself, in a folder, or in the hub's cache.

    Raises:
        MissingWeights: if there is none; the message says how to get it.
        InvalidData: if a folder holds several.
    """
    known = CHECKPOINTS.get(str(source).partition("@")[0])
    names = [known] if known else list(CHECKPOINTS.values())
    url = URL + Path(source).name if Path(source).name in CHECKPOINTS.values() else None
    found = find_file(source, names, url)
    here = [name for name in names if (found.parent / name).is_file()]
    if len(here) > 1 and Path(source).expanduser() != found:
        raise InvalidData(f"Expected one checkpoint in {found.parent}, but it holds {', '.join(here)}: name the file.")
    return found


def find_config(config: str | Path) -> Path:
    """The file of a configuration: a path, or the name of one that the package brings.

    Args:
        config: a YAML file, or a name such as ``sam2.1_hiera_t`` or ``configs/sam2.1/sam2.1_hiera_t.yaml``.

    Raises:
        InvalidData: if there is neither.
    """
    path = Path(config).expanduser()
    if path.is_file():
        return path
    with importing_sam2():
        folder = Path(importlib.import_module("sam2").__path__[0]) / "configs"
    published = {file.stem: file for part in ("sam2", "sam2.1") for file in sorted((folder / part).glob("*.yaml"))}
    name = path.name.removesuffix(".yaml")
    if name not in published:
        raise InvalidData(
            f"Expected config to be a YAML file or one of {', '.join(published)}, but got {str(config)!r}."
        )
    return published[name]


def load(checkpoint: Path, config: Path | None) -> Any:
    """Build the network of a checkpoint and fill in its weights.

    What only tracking in videos needs is left out.

    Args:
        checkpoint: a file as SAM 2 publishes them: ``{"model": weights by name}``.
        config: the YAML file of its configuration; None for the published one that has its shapes.

    Returns:
        A ``SAM2Base`` on the CPU.

    Raises:
        InvalidData: if the file is no such checkpoint, or is one of another configuration.
    """
    import torch

    weights = _weights(checkpoint)
    with importing_sam2(), torch.random.fork_rng(devices=[]):
        model = build(config or published_config(weights))
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        wrong = str(error).split("\n", 1)[-1].strip()
        raise InvalidData(_mismatch(checkpoint, config, f"{wrong:.400}")) from error
    if missing or unexpected:
        parts = [f"{len(keys)} {what}, {keys[0]} first" for what, keys in _named(missing, unexpected) if keys]
        raise InvalidData(_mismatch(checkpoint, config, "; ".join(parts)))
    for part in _TRAINING_ONLY:
        setattr(model, part, torch.nn.Identity())
    return model


def _named(missing: list[str], unexpected: list[str]) -> tuple[tuple[str, list[str]], ...]:
    return ("weights are missing", missing), ("are too many", unexpected)


def _mismatch(checkpoint: Path, config: Path | None, what: str) -> str:
    named = f"the configuration {config}" if config else "the published configuration of its size"
    return f"Expected {checkpoint} to fit {named}, but it does not: {what}. Name its own with config=."


def _weights(checkpoint: Path) -> Mapping[str, Any]:
    import torch

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InvalidData(
            f"Expected tensors alone in {checkpoint}, but it would run code or is no checkpoint; it was not run. "
            f"{str(error).splitlines()[0]:.200}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InvalidData(f"Expected a checkpoint in {checkpoint}, but it cannot be read: {error!s:.200}") from error
    weights = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise InvalidData(
            f'Expected {{"model": weights by name}} in {checkpoint}, as SAM 2 is published, but got '
            f"{_kind(content)}. The files of transformers (model.safetensors) are of another layout."
        )
    return weights


def _kind(content: Any) -> str:
    keys = ", ".join(map(str, list(content)[:3])) if isinstance(content, Mapping) else ""
    return f"a mapping with {keys or 'nothing in it'}" if isinstance(content, Mapping) else type(content).__name__


def published_config(weights: Mapping[str, Any]) -> Path:
    """The configuration of a published checkpoint, told by its shapes, whatever its file is called.

    Raises:
        InvalidData: if it is of none of the published sizes.
    """
    trunk = "image_encoder.trunk."
    projection = weights.get(f"{trunk}patch_embed.proj.weight")
    width = len(projection) if projection is not None else 0
    blocks = len({key.split(".")[3] for key in weights if key.startswith(f"{trunk}blocks.")})
    size = _SIZES.get((width, blocks))
    if size is None:
        raise InvalidData(
            f"Expected a checkpoint of one of the published sizes of SAM 2, but its image encoder has {blocks} blocks, "
            f"{width} wide: name its configuration with config=, a YAML file."
        )
    version = "2.1" if "no_obj_embed_spatial" in weights else "2"
    return find_config(f"sam{version}_hiera_{size}")


def build(config: Path, **changes: Any) -> Any:
    """A network with random weights from a configuration of the package's; to be called inside ``importing_sam2``.

    The package builds it with hydra, whose settings are the whole process's. This reads the same files, and makes
    nothing but networks of the package: a configuration is data.

    Args:
        config: a YAML file.
        **changes: of what it says of the model as a whole: ``image_size``.

    Raises:
        InvalidData: if it is no such configuration.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = OmegaConf.to_container(OmegaConf.load(config), resolve=True)
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise InvalidData(f"Expected a configuration of SAM 2 in {config}, but it cannot be read: {error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise InvalidData(f"Expected YAML in {config}, but it cannot be read: {error}") from error
    node = content.get("model") if isinstance(content, dict) else None
    if not isinstance(node, dict) or "_target_" not in node:
        raise InvalidData(f"Expected a mapping with a 'model' in {config}, as in the configurations of SAM 2.")
    # The one for videos is a SAM2Base that keeps track of more.
    return _made({**node, **changes, "_target_": "sam2.modeling.sam2_base.SAM2Base"}, config)


def _made(node: Any, config: Path) -> Any:
    """A node of a configuration, with networks in place of the mappings that name one."""
    if isinstance(node, list):
        return [_made(part, config) for part in node]
    if not isinstance(node, dict):
        return node
    arguments = {key: _made(value, config) for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        return arguments
    network = _network(node["_target_"], config)
    try:
        return network(**arguments)
    except (TypeError, ValueError, AssertionError, LookupError, RuntimeError) as error:
        raise InvalidData(
            f"Expected {config} to describe a SAM 2, but {network.__name__} cannot be made of it: {error!s:.300}"
        ) from error


def _network(target: Any, config: Path) -> type:
    from torch import nn

    module, _, name = str(target).rpartition(".")
    if module.startswith("sam2.modeling."):
        with contextlib.suppress(ImportError):
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module:
                return found
    raise InvalidData(f"Expected networks of sam2.modeling in {config}, but it names {target!r}.")


@contextlib.contextmanager
def importing_sam2() -> Iterator[None]:
    """Import the package without letting it set up hydra for the whole process, which it does when imported first.

    Raises:
        MissingDependency: if it is not installed.
    """
    if "sam2" in sys.modules:
        yield
        return
    try:
        from hydra.core.global_hydra import GlobalHydra
    except ImportError as error:
        raise MissingDependency('SAM 2 needs the package sam2: pip install "visenv[sam2]".') from error
    state: Any = GlobalHydra.instance()
    before, state.hydra = state.hydra, state.hydra or object()  # sam2 leaves alone what is set up already.
    try:
        try:
            importlib.import_module("sam2")
        except ImportError as error:
            raise MissingDependency('SAM 2 needs the package sam2: pip install "visenv[sam2]".') from error
        yield
    finally:
        state.hydra = before
        # Whoever imports it next, to use its own builder, is to find hydra set up as ever.
        sys.modules.pop("sam2", None)
