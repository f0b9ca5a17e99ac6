"""Reading YOLO checkpoints without running what they hold, and writing them in a layout that holds nothing to run.

A ``.pt`` file of ultralytics is a pickle of whole objects. It is read by ``torch.load(weights_only=True)``, and in the
place of each of its classes stands one of ours that keeps what it is given and does nothing. From that the plan of the
network, its tensors and its class names are taken, the plan is checked, and the network is built anew from it.

A folder of ours holds ``yolo.yaml`` (``kind``, ``names``, ``image_size`` and ``plan``, the model's YAML) and
``yolo.safetensors`` (the tensors by name, and the embeddings of the classes where a model has them).
"""

from __future__ import annotations

import ast
import copy
import pickle
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visenv.errors import InvalidData, MissingDependency
from visenv.experts.yolo.quiet import import_tasks

if TYPE_CHECKING:
    import torch
    from torch import nn

KINDS = ("DetectionModel", "SegmentationModel", "WorldModel", "YOLOEModel", "YOLOESegModel")
"""The classes of ``ultralytics.nn.tasks`` that are read."""
EMBEDDINGS = {"WorldModel": "txt_feats", "YOLOEModel": "pe", "YOLOESegModel": "pe"}
"""Where models with an open vocabulary keep the embeddings of the classes that were set."""
PLAN, TENSORS = "yolo.yaml", "yolo.safetensors"
IMAGE_SIZE = 640
_KNOWN = ("ultralytics.", "torch.", "torchvision.", "numpy.", "pathlib.", "clip.", "mobileclip.")
"""Where the classes of honest checkpoints come from; none of them is used."""
_lock = threading.Lock()


@dataclass
class Checkpoint:
    """What is needed to build a network."""

    kind: str
    """One of ``KINDS``."""
    plan: dict[str, Any]
    """The model's YAML."""
    names: tuple[str, ...]
    """Of the classes."""
    tensors: dict[str, torch.Tensor] = field(repr=False)
    embeddings: torch.Tensor | None = None
    """(1, classes, D) of the classes that were set."""
    image_size: int = IMAGE_SIZE
    """Side in pixels of the squares that it was trained on."""
    end_to_end: bool = False
    """Whether the network chooses boxes itself, where it can."""


def kind_of(path: Path) -> str:
    """Which class a checkpoint is of, without reading its tensors.

    Args:
        path: a ``.pt`` file, or ``yolo.yaml``.

    Raises:
        InvalidData: if it is of none that is read, or holds objects that no checkpoint has to hold.
    """
    if path.suffix == ".yaml":
        return str(_described(path)["kind"])
    found = [name.rpartition(".")[2] for name in _objects_in(path) if name.startswith("ultralytics.nn.tasks.")]
    found = ["DetectionModel" if name == "YOLOv10DetectionModel" else name for name in found]
    kinds = [name for name in found if name in KINDS]
    if len(kinds) != 1 or len(found) != 1:
        raise InvalidData(
            f"Expected a checkpoint of one model in {path}, a {' or a '.join(KINDS)}, but got "
            f"{', '.join(found) or 'none'}."
        )
    return kinds[0]


def read(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: a ``.pt`` file of ultralytics, or ``yolo.yaml`` beside ``yolo.safetensors``.

    Raises:
        InvalidData: if it cannot be read, or holds what it should not.
    """
    if path.suffix == ".yaml":
        return _read_folder(path)
    kind = kind_of(path)
    try:
        root = _unpickled(path)
        state = _model_state(root)
        tensors: dict[str, torch.Tensor] = {}
        _collect(state, "", tensors)
        sizes = [part.get("imgsz") for part in (_mapping(root.get("train_args")), _mapping(state.get("args")))]
        end_to_end = _last_layer(state).get("_end2end") is True
    except pickle.UnpicklingError as error:  # Its advice is to trust the file.
        raise InvalidData(
            f"Expected tensors and plain objects in {path}, but it asks to call something: it was not read."
        ) from error
    except (RecursionError, RuntimeError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise InvalidData(f"Expected a checkpoint of ultralytics in {path}, but it cannot be read: {error}") from error
    plan = _plain(state.get("yaml"))
    embeddings = state.get(EMBEDDINGS.get(kind, ""))
    size = next((size for size in sizes if isinstance(size, int) and size > 0), IMAGE_SIZE)
    return Checkpoint(kind, plan, _names(state.get("names"), plan), tensors, embeddings, size, end_to_end)


def build(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint, in 32-bit floating point.

    Raises:
        InvalidData: if its plan is none, or its tensors do not fit.
    """
    import torch

    tasks = import_tasks()
    check_plan(checkpoint.plan, tasks)
    if checkpoint.kind not in KINDS:
        raise InvalidData(f"Expected a model of {', '.join(KINDS)}, but got {checkpoint.kind}.")
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        try:
            plan = copy.deepcopy(checkpoint.plan)
            model: nn.Module = getattr(tasks, checkpoint.kind)(plan, nc=plan["nc"], verbose=False)
            model.load_state_dict(checkpoint.tensors)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise InvalidData(
                f"Expected the tensors of a {checkpoint.kind} as its plan says, but they do not fit: {error!s:.300} "
                "(models that are fused, pruned or prompt-free cannot be read)."
            ) from error
    model.names = dict(enumerate(checkpoint.names))  # type: ignore[assignment]
    if checkpoint.embeddings is not None and checkpoint.kind in EMBEDDINGS:
        setattr(model, EMBEDDINGS[checkpoint.kind], checkpoint.embeddings.float())
        model.model[-1].nc = len(checkpoint.names)  # type: ignore[index,union-attr]
    if checkpoint.end_to_end:
        model.model[-1].end2end = True  # type: ignore[index,union-attr]
    return model.eval()


def save_yolo(model: Any, folder: str | Path, image_size: int = IMAGE_SIZE) -> Path:
    """Write a YOLO model in the layout that ``YoloExpert`` reads and that holds nothing but tensors and text.

    Args:
        model: an ``ultralytics.YOLO`` (or ``YOLOWorld``, ``YOLOE``), or the network in it; not fused.
        folder: where to; made if it is not there.
        image_size: the side in pixels of the squares that it was trained on.

    Returns:
        The folder.

    Raises:
        InvalidData: if the model is of no kind that is read, or could not be read back.
    """
    try:
        import yaml
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingDependency(f'Saving a YOLO needs more: pip install "visenv[yolo]" ({error}).') from error
    checkpoint = checkpoint_of(model, image_size)
    build(checkpoint)
    tensors = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    if checkpoint.embeddings is not None:
        tensors[_EMBEDDED] = checkpoint.embeddings.detach().to("cpu").contiguous().clone()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS)
    content = {
        "format": _FORMAT,
        "kind": checkpoint.kind,
        "image_size": checkpoint.image_size,
        "end_to_end": checkpoint.end_to_end,
        "names": list(checkpoint.names),
        "plan": checkpoint.plan,
    }
    (folder / PLAN).write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return folder


def checkpoint_of(model: Any, image_size: int = IMAGE_SIZE) -> Checkpoint:
    """What is needed to build a network that is there already.

    Raises:
        InvalidData: if it is of no kind that is read.
    """
    network = network_of(model)
    kind, plan = type(network).__name__, _plain(network.yaml)
    plan.pop("yaml_file", None)
    embeddings = getattr(network, EMBEDDINGS.get(kind, ""), None)
    names = _names(getattr(network, "names", None), plan)
    chooses = bool(getattr(network.model[-1], "_end2end", False))
    return Checkpoint(kind, plan, names, dict(network.state_dict()), embeddings, image_size, chooses)


def network_of(model: Any) -> Any:
    """The network in an ``ultralytics.YOLO``, or the network itself.

    Raises:
        InvalidData: if it is of no kind that is read.
    """
    inner = getattr(model, "model", None)
    network = inner if type(inner).__name__ in KINDS else model
    if type(network).__name__ not in KINDS or not isinstance(getattr(network, "yaml", None), Mapping):
        raise InvalidData(
            f"Expected model to be a folder, a file, or a built model of ultralytics ({', '.join(KINDS)}), but got "
            f"{type(model).__name__}."
        )
    return network


def check_plan(plan: Any, tasks: Any) -> None:
    """Make sure that a model's YAML, which ultralytics looks up and partly evaluates, names layers and nothing else.

    Raises:
        InvalidData: if it does not.
    """
    from torch import nn

    layers = [*_rows(plan, "backbone"), *_rows(plan, "head")]
    for row in layers:
        if not isinstance(row, (list, tuple)) or len(row) != 4 or not isinstance(row[2], str):
            raise InvalidData(f"Expected [from, repeats, module, arguments] in a model's plan, but got {row!r:.80}.")
        name = row[2]
        found = getattr(nn, name[3:], None) if name.startswith("nn.") else getattr(tasks, name, None)
        ours = isinstance(found, type) and issubclass(found, nn.Module)
        if not ours or not found.__module__.startswith(("torch.nn.modules.", "ultralytics.nn.modules.")):
            raise InvalidData(f"Expected the layers of a model's plan to be of ultralytics or torch, but got {name!r}.")
        if name == "TorchVision":
            raise InvalidData("Expected layers that fetch nothing in a model's plan, but got 'TorchVision'.")
    if plan.get("channels", 3) != 3:
        raise InvalidData(f"Expected a model for pictures of 3 channels, but got one for {plan['channels']}.")
    activation = plan.get("activation")
    if activation and not _is_activation(activation):
        raise InvalidData(f"Expected an activation such as 'nn.SiLU()' in a model's plan, but got {activation!r:.80}.")


_FORMAT = "visenv-yolo-1"
_EMBEDDED = "visenv.embeddings"


def _rows(plan: Any, part: str) -> list[Any]:
    if not isinstance(plan, Mapping) or not isinstance(plan.get(part), list) or not plan[part]:
        raise InvalidData(f"Expected a model's plan with a list of layers as {part!r}, but got {plan!r:.80}.")
    return list(plan[part])


def _is_activation(text: Any) -> bool:
    """Whether a text is a call of a class of ``torch.nn`` with plain values."""
    from torch import nn

    try:
        call = ast.parse(str(text).strip(), mode="eval").body
        if not isinstance(call, ast.Call) or ast.unparse(call.func).rpartition(".")[0] not in ("nn", "torch.nn"):
            return False
        for value in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(value)
        found = getattr(nn, ast.unparse(call.func).rpartition(".")[2], None)
    except (SyntaxError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, nn.Module)


# --- folders ----------------------------------------------------------------------------------------------------------


def _described(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency('Reading a YOLO needs pyyaml: pip install "visenv[yolo]".') from error
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidData(f"Expected YAML in {path}, but it cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("kind") not in KINDS:
        raise InvalidData(f"Expected {path} as save_yolo writes it (format {_FORMAT}), but got {content!r:.120}.")
    return content


def _read_folder(path: Path) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    content = _described(path)
    try:
        tensors = load_file(path.parent / TENSORS)
    except (SafetensorError, OSError) as error:
        raise InvalidData(f"Expected tensors in {path.parent / TENSORS}, but they cannot be read: {error}") from error
    embeddings = tensors.pop(_EMBEDDED, None)
    size = content.get("image_size")
    size = size if isinstance(size, int) and size > 0 else IMAGE_SIZE
    names = _names(content.get("names"), content["plan"])
    return Checkpoint(
        content["kind"], content["plan"], names, tensors, embeddings, size, content.get("end_to_end") is True
    )


def _names(names: Any, plan: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names in order, from ``{0: name}`` or a list; numbers where there are none."""
    if isinstance(names, Mapping):
        return tuple(str(names[key]) for key in sorted(names))
    if isinstance(names, (list, tuple)):
        return tuple(map(str, names))
    return tuple(map(str, range(int(plan.get("nc", 0)))))


# --- pickles ----------------------------------------------------------------------------------------------------------


class _Kept:
    """What stands in the place of an object of a checkpoint: it keeps its state, and does nothing."""

    def __new__(cls, *arguments: Any) -> _Kept:
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


def _objects_in(path: Path) -> list[str]:
    """The classes and functions that a pickle names besides those of plain tensors.

    Raises:
        InvalidData: if it is no such file, or names others than those of honest checkpoints.
    """
    import torch

    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # Whatever a broken or hostile file makes of it.
        raise InvalidData(f"Expected a checkpoint of ultralytics in {path}, but it cannot be read: {error}") from error
    strange = sorted(name for name in names if not name.startswith(_KNOWN) and name != "builtins.getattr")
    if strange:
        raise InvalidData(
            f"Expected a checkpoint of ultralytics in {path}, but it names {', '.join(strange)[:200]}: it was not "
            "read. If you trust it, load it with ultralytics yourself and save it anew: save_yolo(YOLO(path), folder)."
        )
    return names


def _unpickled(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, with stand-ins for its objects."""
    import torch

    stand_ins = [(type("_Kept", (_Kept,), {}), name) for name in _objects_in(path)]
    with _lock:
        # Names that a program has allowed elsewhere would otherwise get the real classes.
        allowed = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
                root = torch.load(path, map_location="cpu", weights_only=True)
        finally:
            torch.serialization.add_safe_globals(allowed)
    if not isinstance(root, dict):
        raise TypeError(f"expected a dictionary, but got {type(root).__name__}")
    return root


def _model_state(root: Mapping[str, Any]) -> dict[str, Any]:
    model = root.get("ema") or root.get("model")
    if not isinstance(model, _Kept):
        raise TypeError("it holds no model")
    return model.state


def _last_layer(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of the layer that finds boxes."""
    layers = _mapping(_mapping(_mapping(state.get("_modules")).get("model")).get("_modules"))
    return _mapping(layers[list(layers)[-1]]) if layers else {}


def _collect(state: Mapping[str, Any], prefix: str, into: dict[str, torch.Tensor]) -> None:
    """Gather the parameters and buffers of a module and those in it under their full names."""
    import torch

    transient = state.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, tensor in _mapping(state.get(group)).items():
            if isinstance(tensor, torch.Tensor) and name not in transient:
                into[prefix + name] = tensor.detach()
    for name, module in _mapping(state.get("_modules")).items():
        if isinstance(module, _Kept):
            _collect(module.state, f"{prefix}{name}.", into)


def _mapping(value: Any) -> Mapping[str, Any]:
    value = value.state if isinstance(value, _Kept) else value
    return value if isinstance(value, Mapping) else {}


def _plain(value: Any) -> Any:
    """The same with plain containers and values alone, as YAML has them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
