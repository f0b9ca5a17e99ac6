"""What phrases are to detectors with an open vocabulary: vectors of a text encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from visenv.byte_cache import ByteCache
from visenv.errors import InvalidData
from visenv.experts.models.transformers_files import find_model, import_transformers, load_model, load_processor
from visenv.experts.models.weights import module_digest

if TYPE_CHECKING:
    import torch
    from torch import nn

CLIP = "openai/clip-vit-base-patch32"
"""The encoder that YOLO-World was trained with, in the layout of transformers."""
Encoder: TypeAlias = "Callable[[list[str]], Any]"
_REMEMBERED = 16 * 2**20


def find_clip(source: str | Path) -> Path:
    """The folder of a CLIP model in the layout of transformers.

    Raises:
        MissingWeights: saying what is missing and which command fetches it.
        InvalidData: if it is another model.
    """
    return find_model(source, ("clip", "clip_text_model"), images=False)


class ClipTexts:
    """The text half of a CLIP model.

    Args:
        folder: in the layout of transformers.

    Raises:
        MissingDependency: if transformers is missing.
        InvalidData: if the weights cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        import torch

        transformers = import_transformers()
        self.tokenizer = load_processor(folder, kind=transformers.AutoTokenizer)
        self.model: nn.Module = load_model(transformers.CLIPTextModelWithProjection, folder, torch.float32)

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """(T, D) a vector for each text."""
        tokens = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        device = next(self.model.parameters()).device
        found: torch.Tensor = self.model(**tokens.to(device)).text_embeds
        return found


class Texts:
    """Phrases to unit vectors, each computed once and alone, so that none depends on its neighbours.

    Args:
        encode: gives T texts (T, D) numbers: an array or a tensor.
    """

    def __init__(self, encode: Encoder) -> None:
        self.encode = encode
        self._known: ByteCache[torch.Tensor] = ByteCache(_REMEMBERED)

    @property
    def modules(self) -> list[nn.Module]:
        """The networks that have to be on the device."""
        return [self.encode.model] if isinstance(self.encode, ClipTexts) else []

    def __call__(self, texts: Sequence[str], width: int) -> torch.Tensor:
        """(T, D) float32 on the CPU.

        Args:
            texts: the phrases.
            width: what D has to be.

        Raises:
            InvalidData: if the encoder gives something else.
        """
        import torch

        return torch.stack([self._vector(text, width) for text in texts])

    def _vector(self, text: str, width: int) -> torch.Tensor:
        import torch

        vector = self._known.get(text)
        if vector is None:
            given = self.encode([text])
            vector = torch.as_tensor(given if isinstance(given, torch.Tensor) else np.asarray(given)).detach()
            if vector.shape != (1, width) or not torch.isfinite(vector).all():
                raise InvalidData(
                    f"Expected text_encoder to give finite numbers (1, {width}) for one phrase, but got "
                    f"{tuple(vector.shape)}: the model was trained with another encoder."
                )
            vector = torch.nn.functional.normalize(vector[0].to("cpu", torch.float32), dim=0)
            self._known.put(text, vector, vector.nbytes)
        return vector

    def digest(self) -> str:
        """Of what decides the vectors: a network, or else the vector of one word."""
        if self.modules:
            return module_digest(self.modules[0])
        import torch

        given = self.encode(["thing"])
        array = np.asarray(given.detach().cpu() if isinstance(given, torch.Tensor) else given, np.float32)
        return hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()
