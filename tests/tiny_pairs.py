"""Tiny depth estimators and embedders with random weights, saved in the layout that users have."""

from tiny_models import WORDS, clip_tokenizer, seeded

LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def depth_anything(folder, **keywords):
    """A Depth Anything V2 of two layers, saved with its image processor as the hub has it."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    backbone = Dinov2Config(
        **{**LAYERS, "mlp_ratio": 2},
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 16],
        fusion_hidden_size=8,
        head_hidden_size=4,
        **keywords,
    )
    seeded(lambda: DepthAnythingForDepthEstimation(config)).save_pretrained(folder)
    DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14, do_pad=False
    ).save_pretrained(folder)
    return folder


def dpt(folder):
    """A DPT of four layers, saved with its image processor."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        **{**LAYERS, "num_hidden_layers": 4},
        image_size=32,
        patch_size=8,
        is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[4, 8, 8, 8],
        reassemble_factors=[4, 2, 1, 0.5],
        fusion_hidden_size=8,
    )
    seeded(lambda: DPTForDepthEstimation(config)).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def glpn(folder):
    """A GLPN of four stages, which writes distances at about the size of the image."""
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor

    config = GLPNConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=8,
        mlp_ratios=[2, 2, 2, 2],
    )
    seeded(lambda: GLPNForDepthEstimation(config)).save_pretrained(folder)
    GLPNImageProcessor().save_pretrained(folder)
    return folder


def zoedepth(folder):
    """A ZoeDepth of four layers, whose processor pads images and takes the padding off again."""
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

    backbone = BeitConfig(
        **{**LAYERS, "num_hidden_layers": 4},
        image_size=32,
        patch_size=8,
        use_relative_position_bias=True,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        backbone_hidden_size=16,
        neck_hidden_sizes=[4, 8, 8, 8],
        reassemble_factors=[4, 2, 1, 0.5],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
        num_attractors=[4, 2, 2, 1],
    )
    seeded(lambda: ZoeDepthForDepthEstimation(config)).save_pretrained(folder)
    ZoeDepthImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def clip(folder, tokens=16):
    """A CLIP of two layers, saved with its processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = clip_tokenizer(tokens)
    config = CLIPConfig(
        text_config={
            **LAYERS,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokens,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**LAYERS, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    seeded(lambda: CLIPModel(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def siglip(folder, tokens=16):
    """A SigLIP of two layers, with the tokenizer that its second version has at fixed resolution."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = gemma_tokenizer(tokens)
    config = SiglipConfig(
        text_config={**LAYERS, "vocab_size": len(tokenizer), "max_position_embeddings": tokens, "projection_size": 16},
        vision_config={**LAYERS, "image_size": 32, "patch_size": 8},
    )
    seeded(lambda: SiglipModel(config)).save_pretrained(folder)
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def siglip2(folder, tokens=16):
    """A SigLIP 2 of two layers that takes images of any shape (NaFlex)."""
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model, Siglip2Processor

    tokenizer = gemma_tokenizer(tokens)
    config = Siglip2Config(
        text_config={**LAYERS, "vocab_size": len(tokenizer), "max_position_embeddings": tokens, "projection_size": 16},
        vision_config={**LAYERS, "num_patches": 16, "patch_size": 8},
    )
    seeded(lambda: Siglip2Model(config)).save_pretrained(folder)
    images = Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    Siglip2Processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def gemma_tokenizer(tokens):
    """As SigLIP 2 has: lower case, blanks as letters, bytes for what it does not know."""
    from transformers import Siglip2Tokenizer

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += sorted(set("".join(WORDS)))
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return Siglip2Tokenizer(vocab=vocab, merges=[], model_max_length=tokens, model_input_names=["input_ids"])
