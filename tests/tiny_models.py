"""Tiny models with random weights and the tokenizers that real ones need, saved in the layout that users have."""

import numpy as np
import torch

from visenv.capabilities import View
from visenv.images import Provenance, RootPixels

WORDS = ("a", "the", "of", "photo", "red", "blue", "small", "cat", "dog", "car", "square", "circle", "thing", "left")
"""What the tiny tokenizers know as words; everything else they spell."""
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:-?'"


def seeded(make, seed=0):
    """What a function makes, its random weights the same each time, and the generator as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def view(width=40, height=30, seed=0):
    """An image of noise."""
    pixels = np.random.default_rng((seed, width, height)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def bert_tokenizer(max_length=256):
    """As Grounding DINO has: word pieces, lower case, and the marks where BERT has them: models know their numbers."""
    from transformers import BertTokenizer

    marks = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    pieces = iter(dict.fromkeys([*WORDS, *LETTERS, *("##" + letter for letter in LETTERS)]) - marks.keys())
    taken = {number: mark for mark, number in marks.items()}
    vocab = {}
    for number in range(1030):
        vocab[taken.get(number) or next(pieces, None) or f"[unused{number}]"] = number
    return BertTokenizer(vocab=vocab, do_lower_case=True, model_max_length=max_length)


def clip_tokenizer(max_length=16):
    """As CLIP, OWLv2 and SAM 3 have: byte pairs that end in ``</w>``."""
    from transformers import CLIPTokenizer

    vocab, merges = _pairs(WORDS, end="</w>")
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(vocab)}, merges=merges, model_max_length=max_length
    )


def bart_tokenizer(added=(), max_length=64, **special):
    """As BART and Florence-2 have: byte pairs that begin with a blank."""
    from transformers import BartTokenizer

    vocab, merges = _pairs(["Ġ" + word for word in WORDS], end="")
    vocab = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *vocab]
    made = BartTokenizer(
        vocab={piece: index for index, piece in enumerate(dict.fromkeys(vocab))},
        merges=merges,
        model_max_length=max_length,
        extra_special_tokens=special,
    )
    made.add_tokens(list(added))
    return made


def _pairs(words, end):
    """The pieces of a byte-pair vocabulary that spells anything and knows some words, and its merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    vocab = letters + ([letter + end for letter in letters] if end else [])
    merges = []
    for word in words:
        parts = list(word[:-1]) + [word[-1] + end]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            vocab.append(parts[0])
    return list(dict.fromkeys(vocab)), list(dict.fromkeys(merges))


def owlv2(folder, side=32, tokens=16):
    """An OWLv2 of 16 patches, saved with its processor."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    tokenizer = clip_tokenizer(tokens)
    shared = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config={
            **shared,
            "hidden_size": 16,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokens,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**shared, "hidden_size": 16, "image_size": side, "patch_size": side // 4},
        projection_dim=16,
    )
    seeded(lambda: Owlv2ForObjectDetection(config)).save_pretrained(folder)
    images = Owlv2ImageProcessor(size={"height": side, "width": side})
    Owlv2Processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def sam3_config(words, side=112, patch=14):
    """Of a SAM 3 with a few channels a layer: what facebook/sam3 has in its config.json, smaller."""
    from transformers import Sam3Config, Sam3VideoConfig

    cells, heads = side // patch, {"hidden_size": 32, "num_attention_heads": 2}
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": side // 2,
        "initializer_range": 0.3,
    }
    vision = {
        "backbone_config": backbone,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
        "initializer_range": 0.3,
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": words,
        "hidden_size": 16,
        "intermediate_size": 32,
        "projection_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
        "pad_token_id": words - 1,
    }
    layers = {**heads, "intermediate_size": 32, "num_layers": 1, "initializer_range": 0.3}
    detector = Sam3Config(
        vision_config=vision,
        text_config=text,
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 6},
        mask_decoder_config={**heads, "initializer_range": 0.3},
        initializer_range=0.3,
    )
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": side,
        "initializer_range": 0.3,
        "prompt_encoder_config": {"hidden_size": 32, "image_size": side, "patch_size": patch},
        "mask_decoder_config": {**heads, "mlp_dim": 32, "iou_head_hidden_dim": 32},
        "memory_attention_hidden_size": 32,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": 32,
        "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
    }
    return Sam3VideoConfig(detector_config=detector.to_dict(), tracker_config=tracker, initializer_range=0.3)


def sam3(folder, side=112):
    """A SAM 3 in the layout of facebook/sam3: the weights of detector, tracker and the tracker's neck in one file."""
    from safetensors.torch import save_file
    from transformers import Sam3ImageProcessor, Sam3VideoModel, Sam3VideoProcessor
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    tokenizer = clip_tokenizer(32)
    config = sam3_config(len(tokenizer), side)
    model = seeded(lambda: Sam3VideoModel(config))
    config.architectures = ["Sam3VideoModel"]
    config.save_pretrained(folder)
    # save_pretrained writes the tracker's names with their prefix twice; the published file has it once.
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    size = {"height": side, "width": side}
    images, frames = Sam3ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size)
    Sam3VideoProcessor(images, frames, tokenizer).save_pretrained(folder)
    return folder


def grounding_dino(folder, kind="grounding-dino", shortest=64, longest=96):
    """A Grounding DINO, or one of OpenMMLab, with a Swin of 8 channels and 12 queries."""
    import transformers

    tokenizer = bert_tokenizer()
    mm = kind.startswith("mm")
    config_class = transformers.MMGroundingDinoConfig if mm else transformers.GroundingDinoConfig
    model_class = transformers.MMGroundingDinoForObjectDetection if mm else transformers.GroundingDinoForObjectDetection
    config = config_class(
        backbone_config={
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        num_queries=12,
        d_model=64,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        encoder_n_points=2,
        decoder_n_points=2,
    )
    seeded(lambda: model_class(config)).save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": shortest, "longest_edge": longest})
    transformers.GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def florence2(folder, side=32):
    """A Florence-2 with four tokens an image, which can write all places and no more than 40 tokens."""
    import transformers
    from transformers import Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    places = [f"<loc_{number}>" for number in range(1000)]
    marks = ["<od>", "</od>", "<ocr>", "</ocr>", "<cap>", "</cap>", "<poly>", "</poly>", "<sep>", "<grounding>"]
    tokenizer = bart_tokenizer([*marks, *places], 1024, image_token="<image>")
    language = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "max_position_embeddings": 220,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": tokenizer.eos_token_id,
        "init_std": 0.7,
    }
    vision = {
        "embed_dim": [8, 8, 8, 8],
        "num_heads": [1, 1, 1, 1],
        "num_groups": [1, 1, 1, 1],
        "depths": [1, 1, 1, 1],
        "window_size": 2,
        "projection_dim": 16,
    }
    config = Florence2Config(
        text_config=language, vision_config=vision, image_token_id=tokenizer.convert_tokens_to_ids("<image>")
    )
    model = seeded(lambda: Florence2ForConditionalGeneration(config))
    model.save_pretrained(folder)
    images = transformers.CLIPImageProcessor(
        size={"height": side, "width": side},
        do_center_crop=False,
        image_seq_length=2,
        crop_size={"height": side, "width": side},
    )
    Florence2Processor(images, tokenizer, post_processor_config=FLORENCE_PARSING).save_pretrained(folder)
    return folder


FLORENCE_PARSING = {
    "ocr": {"PATTERN": None, "AREA_THRESHOLD": 0.0},
    "phrase_grounding": {"banned_grounding_tokens": ["the image"]},
    "pure_text": {},
    "description_with_bboxes": {},
    "description_with_polygons": {},
    "polygons": {},
    "bboxes": {},
    "description_with_bboxes_or_polygons": {},
}
"""The kinds of answers that Florence-2's processor can read, as the published one lists them."""
