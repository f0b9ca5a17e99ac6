"""Tiny vision-language models with random weights, saved in the layout that users have."""

from tiny_models import WORDS, _pairs, seeded

QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MOLMO_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<low_res_im_start>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
    "<|image|>",
    "<|video|>",
)
MOLMO_TEMPLATE = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}<|image|>{% endif %}"
    "{% endfor %}{% endfor %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 4096,
}


def byte_tokenizer(special, **keywords):
    """As Qwen has: byte pairs that spell anything, with tokens of its own."""
    from transformers import Qwen2Tokenizer

    vocab, merges = _pairs(["Ġ" + word for word in WORDS], end="")
    vocab = [*vocab, *special]
    return Qwen2Tokenizer(
        vocab={piece: index for index, piece in enumerate(dict.fromkeys(vocab))},
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(special),
        **keywords,
    )


def _rope(sections):
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}


def qwen3_vl(folder, template=QWEN_TEMPLATE):
    """A Qwen3-VL of two layers, saved with its processor."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = byte_tokenizer(QWEN_TOKENS)
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32}
    config = Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": _rope([2, 1, 1])},
        vision_config={
            **vision,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **_ids(tokenizer),
    )
    sizes = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 4096}}
    model = seeded(lambda: Qwen3VLForConditionalGeneration(config))
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**sizes),
        chat_template=template,
    )
    return _saved(model, processor, tokenizer, folder)


def qwen2_5_vl(folder):
    """A Qwen2.5-VL of two layers, saved with its processor."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = byte_tokenizer(QWEN_TOKENS)
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": _rope([2, 1, 1])},
        vision_config={**vision, "patch_size": 8, "window_size": 32, "fullatt_block_indexes": [1]},
        **_ids(tokenizer),
    )
    sizes = {"patch_size": 8, "size": {"shortest_edge": 256, "longest_edge": 4096}}
    model = seeded(lambda: Qwen2_5_VLForConditionalGeneration(config))
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=QWEN_TEMPLATE,
    )
    return _saved(model, processor, tokenizer, folder)


def molmo2(folder):
    """A Molmo 2 of two layers, saved with its processor."""
    from transformers import (
        Molmo2Config,
        Molmo2ForConditionalGeneration,
        Molmo2ImageProcessor,
        Molmo2Processor,
        Molmo2VideoProcessor,
    )

    tokenizer = byte_tokenizer(MOLMO_TOKENS)
    known = tokenizer.get_vocab()
    vision = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
    config = Molmo2Config(
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "additional_vocab_size": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
        vision_config={
            **vision,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "image_size": [56, 56],
            "patch_size": 14,
        },
        adapter_config={**vision, "vision_feature_layer": [0, 1], "intermediate_size": 48, "text_hidden_size": 32},
        image_start_token_id=known["<im_start>"],
        low_res_image_start_token_id=known["<low_res_im_start>"],
        image_end_token_id=known["<im_end>"],
        image_patch_id=known["<im_patch>"],
        frame_start_token_id=known["<frame_start>"],
        frame_end_token_id=known["<frame_end>"],
    )
    sizes = {"size": {"height": 56, "width": 56}, "patch_size": 14, "pooling_size": [2, 2]}
    model = seeded(lambda: Molmo2ForConditionalGeneration(config))
    processor = Molmo2Processor(
        image_processor=Molmo2ImageProcessor(**sizes, max_crops=2, overlap_margins=[1, 1]),
        video_processor=Molmo2VideoProcessor(**sizes),
        tokenizer=tokenizer,
        chat_template=MOLMO_TEMPLATE,
    )
    return _saved(model, processor, tokenizer, folder)


def llava(folder):
    """A LLaVA of two layers over a CLIP of two, saved with its processor."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = byte_tokenizer((*QWEN_TOKENS[:3], "<image>"))
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        vision_config=CLIPVisionConfig(**vision, image_size=32, patch_size=8),
        image_token_index=tokenizer.get_vocab()["<image>"],
        image_seq_length=16,
    )
    model = seeded(lambda: LlavaForConditionalGeneration(config))
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>"),
    )
    return _saved(model, processor, tokenizer, folder)


def gemma3(folder):
    """A Gemma 3 of two layers, whose template marks images otherwise than its tokens do."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    special = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = byte_tokenizer((*QWEN_TOKENS[:3], *special.values()), extra_special_tokens=special)
    known = tokenizer.get_vocab()
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Gemma3Config(
        text_config={**TEXT, "vocab_size": len(tokenizer), "sliding_window": 64},
        vision_config={**vision, "image_size": 32, "patch_size": 8},
        mm_tokens_per_image=4,
        image_token_index=known["<image_soft_token>"],
        boi_token_index=known["<start_of_image>"],
        eoi_token_index=known["<end_of_image>"],
    )
    model = seeded(lambda: Gemma3ForConditionalGeneration(config))
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=QWEN_TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<start_of_image>"),
    )
    return _saved(model, processor, tokenizer, folder)


def _ids(tokenizer):
    known = tokenizer.get_vocab()
    return {
        "image_token_id": known["<|image_pad|>"],
        "video_token_id": known["<|video_pad|>"],
        "vision_start_token_id": known["<|vision_start|>"],
        "vision_end_token_id": known["<|vision_end|>"],
    }


def _saved(model, processor, tokenizer, folder):
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
