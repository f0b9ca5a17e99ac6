"""Token ids of a conversation as they grow: what the model has read and written, never encoded a second time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image

from visenv.adapters.blocks import with_pillow
from visenv.errors import InvalidData

Messages = list[dict[str, Any]]


@dataclass
class Stream:
    """One sample of verl in the making: a prompt, and what followed."""

    prompt: list[int]
    images: list[Image.Image]
    """One for each span of image tokens, in order."""
    logprobs: list[float] | None
    """One for each token of the response, if they are wanted: 0 where the environment spoke."""
    messages: Messages = field(default_factory=list)
    """The conversation that the tokens stand for."""
    response: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    """One for each token of the response: 1 where the model spoke."""
    routed: Any = None
    """What the server tells of a mixture of experts, as verl takes it."""

    @property
    def tokens(self) -> list[int]:
        """Prompt and response."""
        return self.prompt + self.response

    @property
    def spoken(self) -> bool:
        """Whether the model has written anything in it."""
        return any(self.mask)


class Encoder:
    """Conversations to tokens and tokens to texts, with verl's continuous tokens.

    Everything here takes time and touches no event loop: call it on a thread.

    Args:
        builder: verl's ``ContinuousTokenBuilder`` for the model.
        tokenizer: of the model.
        media: the token ids that stand for pictures and videos.
    """

    def __init__(self, builder: Any, tokenizer: Any, media: Collection[int]) -> None:
        self._builder, self._tokenizer, self._media = builder, tokenizer, frozenset(media)
        self._eos: int | None = tokenizer.eos_token_id
        self._special = frozenset(tokenizer.all_special_ids)

    def begin(self, messages: Messages, logprobs: bool) -> Stream:
        """The prompt of a conversation.

        Args:
            messages: roles and content blocks, pictures as arrays.
            logprobs: whether log-probabilities are wanted.

        Raises:
            InvalidData: if the chat template does not show each picture once.
        """
        said = [{**message, "content": with_pillow(message["content"])} for message in messages]
        images = _images(said)
        prompt = self._builder.build_initial_tokens(said, images=images or None)
        self._check(prompt, len(images))
        return Stream(prompt, images, [] if logprobs else None, said)

    def heard(self, stream: Stream, blocks: Sequence[dict[str, Any]]) -> Stream:
        """A conversation with what the environment has said; the one given stays as it is.

        Raises:
            InvalidData: if the chat template does not show each picture once.
        """
        tokens, mask, logprobs = stream.tokens, list(stream.mask), _copied(stream.logprobs)
        if stream.messages[-1]["role"] == "assistant" and not self.ended(tokens) and self._eos is not None:
            # A turn that was cut, or is empty: the template ends it all the same.
            tokens.append(self._eos)
            mask.append(0)
            logprobs = None if logprobs is None else [*logprobs, 0.0]
        messages = [*stream.messages, {"role": "user", "content": with_pillow(blocks)}]
        merged = self._builder.merge_context_tokens(stream.messages, messages, tokens)
        images = _images(messages[-1:])
        self._check(merged.token_ids[len(tokens) :], len(images))
        mask, logprobs = self._builder.align_response_metadata(merged, mask, logprobs)
        return Stream(
            stream.prompt,
            stream.images + images,
            logprobs,
            messages,
            merged.token_ids[len(stream.prompt) :],
            mask,
        )

    def spoken(self, stream: Stream, tokens: list[int], logprobs: Sequence[float] | None) -> Stream:
        """A conversation with a turn that the model has written; the one given stays as it is.

        Args:
            stream: the conversation.
            tokens: as ``without_media`` leaves them.
            logprobs: one a token, if they are wanted.
        """
        merged = self._builder.merge_assistant_tokens(stream.tokens, tokens)
        wanted = None if stream.logprobs is None else list(logprobs or ())[: len(tokens)]
        mask, kept = self._builder.align_response_metadata(
            merged, stream.mask, stream.logprobs, assistant_logprobs=wanted
        )
        said = [{"type": "text", "text": self.text(stream, tokens)}]
        messages = [*stream.messages, {"role": "assistant", "content": said}]
        return Stream(stream.prompt, stream.images, kept, messages, merged.token_ids[len(stream.prompt) :], mask)

    def without_media(self, tokens: Sequence[int]) -> list[int]:
        """A turn up to the first token that stands for a picture: there is none behind it, and training would fail."""
        end = next((place for place, token in enumerate(tokens) if token in self._media), len(tokens))
        if end < len(tokens):
            end = self._end(tokens[:end])
        return list(tokens[:end])

    def text(self, stream: Stream, tokens: Sequence[int]) -> str:
        """What a turn says, with the beginning that the template has put into the model's mouth.

        Args:
            stream: what the turn followed.
            tokens: of the turn.
        """
        decode: Callable[..., str] = partial(self._tokenizer.decode, skip_special_tokens=False)
        opened = decode(stream.tokens[-8:]).rstrip().endswith("<think>")
        return ("<think>\n" if opened else "") + decode(list(tokens[: self._end(tokens)]))

    def ended(self, tokens: Sequence[int]) -> bool:
        """Whether a turn ends with a token of the kind that ends turns."""
        return bool(tokens) and tokens[-1] in self._special

    def _end(self, tokens: Sequence[int]) -> int:
        """Where a turn's text ends: before the special tokens at its end."""
        end = len(tokens)
        while end and tokens[end - 1] in self._special:
            end -= 1
        return end

    def _check(self, tokens: Sequence[int], images: int) -> None:
        spans = sum(
            token in self._media and (place == 0 or tokens[place - 1] != token) for place, token in enumerate(tokens)
        )
        if spans != images:
            raise InvalidData(
                f"Expected the model's chat template to show each of {images} pictures once, but it shows {spans}: "
                "use a vision-language model, with a template that renders image blocks in messages of users."
            )


def _images(messages: Messages) -> list[Image.Image]:
    return [block["image"] for message in messages for block in message["content"] if block["type"] == "image"]


def _copied(values: list[float] | None) -> list[float] | None:
    return None if values is None else list(values)
