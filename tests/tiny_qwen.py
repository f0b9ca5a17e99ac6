"""A tiny Qwen3-VL with random weights that writes given texts: whole tool calls are single tokens of its vocabulary."""

import torch
from transformers import (
    Qwen2TokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
PIXELS = {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 16}
"""A picture takes 4 to 16 tokens."""


def tiny_tokenizer(texts=()):
    """Bytes, the special tokens of Qwen, and some texts that are one token each."""
    tokenizer = Qwen2TokenizerFast(
        vocab={letter: index for index, letter in enumerate(bytes_to_unicode().values())},
        merges=[],
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
    )
    tokenizer.add_tokens(list(texts))
    return tokenizer


def tiny_processor(texts=(), chat_template=None):
    """The processor of Qwen3-VL, with pictures of a few tokens."""
    tokenizer = tiny_tokenizer(texts)
    sizes = {"patch_size": 16, "merge_size": 2}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=PIXELS, **sizes),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**sizes),
        chat_template=chat_template,
    )


def tiny_model(processor, likely=(), seed=0):
    """A model of two layers that writes some tokens far more often than others, whatever it has read.

    Args:
        processor: whose tokens it knows.
        likely: texts that are one token each, and how much more likely than the rest (as logits).
    """
    tokenizer = processor.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen3VLConfig(
        vision_config={**vision, "patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 64},
        text_config={
            **text,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    with torch.no_grad():
        # One number of every token's vector outweighs all others, so that the head can prefer tokens by it.
        model.model.language_model.embed_tokens.weight[:, 0] = 10.0
        model.lm_head.weight[:, 0] = 0.0
        for token, more in dict(likely).items():
            model.lm_head.weight[tokenizer.convert_tokens_to_ids(token), 0] = more / config.text_config.hidden_size**0.5
    return model
