"""Experts that are a model of transformers and its processor, read from one folder or given as a pair."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from visenv.experts.models.base import ModelExpert
from visenv.experts.models.transformers_files import (
    EXTRA,
    check_processor,
    find_model,
    import_transformers,
    load_model,
    load_processor,
    model_type,
    processor_digest,
    version,
)

if TYPE_CHECKING:
    from torch import nn


class PairExpert(ModelExpert["tuple[Any, Any]"]):
    """What experts share that are a model and a processor of transformers.

    The processor is small and is read when the expert is made, so that one that does not fit is refused then.

    Args:
        model: a folder, a hub id, or the pair of a model and its processor.
        **keywords: as ``ModelExpert`` takes them.

    Raises:
        MissingWeights: if a file is not there; the message says how to get it.
        InvalidData: if the processor does not fit, or a value is out of range.
    """

    extra = EXTRA
    auto_class: ClassVar[str]
    """Which of the ``Auto`` classes of transformers reads the model."""
    auto_processor: ClassVar[str] = "AutoProcessor"
    """Which of them reads the processor."""
    model_types: ClassVar[Collection[str]] = ()
    """What ``model_type`` in ``config.json`` may be; anything if empty."""
    processors: ClassVar[Sequence[str]] = ()
    """The names of the classes of processors that fit; anything if empty."""
    texts: ClassVar[bool] = True
    """Whether a tokenizer belongs to it."""

    def __init__(self, model: Any, **keywords: Any) -> None:
        self._processor: Any = None
        super().__init__(model, **keywords)
        check_processor(self.processor, self.processors, self.where)

    @property
    def processor(self) -> Any:
        """The model's processor: of its folder, or as it was given."""
        if self._processor is None:
            if self._given is not None:
                self._processor = self._given[1]
            else:
                kind = getattr(import_transformers(), self.auto_processor)
                self._processor = load_processor(self._folder, kind=kind)
        return self._processor

    @property
    def model_type(self) -> str:
        """What ``config.json``, or the configuration of the model given, says the model is."""
        if self._given is not None:
            return str(getattr(self._given[0].config, "model_type", ""))
        return model_type(self._folder)

    @property
    def where(self) -> str:
        """From where it is, for error messages."""
        return str(self._folder) if self._given is None else f"the given {type(self._given[0]).__name__}"

    @property
    def _folder(self) -> Path:
        assert self._source is not None
        return self._source[0]

    def load(self) -> tuple[Any, Any]:
        """The model on its device and its processor; read now if they were not yet."""
        if self._loaded is None and self._given is not None:
            # Buffers stay as exact as they are: with the angles of positions in bf16, long texts fall apart.
            for parameter in self._given[0].parameters():
                parameter.data = parameter.data.to(self.placement.dtype)
        return super().load()

    def _find(self, source: str | Path) -> tuple[Path, ...]:
        import_transformers()
        return (find_model(source, self.model_types, texts=self.texts),)

    def _load(self, source: tuple[Path, ...]) -> tuple[Any, Any]:
        kind = getattr(import_transformers(), self.auto_class)
        return load_model(kind, source[0], self.placement.dtype), self.processor

    def _modules(self, model: Any) -> list[nn.Module]:
        from torch import nn

        pair = isinstance(model, tuple) and len(model) == 2 and callable(model[1])
        return [model[0]] if pair and isinstance(model[0], nn.Module) else []

    def _version(self) -> str:
        return version() + (processor_digest(self._given[1]) if self._given is not None else "")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self._given is None:
            return state | {"_processor": None}
        return state | {"_given": (_without_hooks(self._given[0]), self._given[1])}


def _without_hooks(model: nn.Module) -> nn.Module:
    """A copy of a model without the hooks that transformers leaves in one that ran, which cannot be pickled."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        vars(module).pop("_output_capturing_hooks_installed", None)
        hooks = module._forward_hooks
        for key in [key for key, hook in hooks.items() if "output_capturing" in getattr(hook, "__qualname__", "")]:
            del hooks[key]
    return twin
