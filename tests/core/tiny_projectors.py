"""Write tiny multimodal projectors with random weights, for the tiny models, and images for them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import gguf
import numpy as np
from tiny_models import N_EMBD

_N_LAYER = 2
_N_FF = 32
_PATCH = 8
_SIDE = 48

# What a projector of each kind makes of an image of 48 x 48 pixels. Rows of the first one see each other in
# both directions, those of the third have rows and columns for positions (M-RoPE).
N_ROWS = {"gemma3": 9, "mlp": 36, "qwen2vl_merger": 9}


def write_projector(path: Path, kind: str, seed: int = 11) -> None:
    """Write one of the kinds in ``N_ROWS``."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", kind)
    writer.add_bool("clip.use_gelu", True)
    numbers = {
        "image_size": _SIDE,
        "patch_size": _PATCH,
        "embedding_length": N_EMBD,
        "feed_forward_length": _N_FF,
        "block_count": _N_LAYER,
        "projection_dim": N_EMBD,
        "attention.head_count": 2,
        "projector.scale_factor": 2,
        "image_min_pixels": 4 * _PATCH * _PATCH,
        "image_max_pixels": _SIDE * _SIDE,
    }
    for name, number in numbers.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])

    def add(name: str, *shape: int, half: bool = False) -> None:
        values = random.standard_normal(shape) / np.sqrt(shape[-1])
        writer.add_tensor(name, values.astype(np.float16 if half else np.float32))

    def add_norm(name: str, *, bias: bool = True) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(N_EMBD, np.float32))
        if bias:
            writer.add_tensor(f"{name}.bias", np.zeros(N_EMBD, np.float32))

    add("v.patch_embd.weight", N_EMBD, 3, _PATCH, _PATCH, half=True)
    if kind == "qwen2vl_merger":
        add("v.patch_embd.weight.1", N_EMBD, 3, _PATCH, _PATCH, half=True)
        add("mm.0.weight", 4 * N_EMBD, 4 * N_EMBD, half=True)
        add("mm.0.bias", 4 * N_EMBD)
        add("mm.2.weight", N_EMBD, 4 * N_EMBD, half=True)
        add("mm.2.bias", N_EMBD)
    else:
        add("v.patch_embd.bias", N_EMBD)
        add("v.position_embd.weight", (_SIDE // _PATCH) ** 2, N_EMBD)
        if kind == "gemma3":
            add("mm.input_projection.weight", N_EMBD, N_EMBD)
            add_norm("mm.soft_emb_norm", bias=False)
        else:
            for layer in (0, 2):
                add(f"mm.{layer}.weight", N_EMBD, N_EMBD, half=True)
                add(f"mm.{layer}.bias", N_EMBD)
    for i in range(_N_LAYER):
        block = f"v.blk.{i}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add(f"{block}.{name}.weight", N_EMBD, N_EMBD, half=True)
            add(f"{block}.{name}.bias", N_EMBD)
        add(f"{block}.ffn_up.weight", _N_FF, N_EMBD, half=True)
        add(f"{block}.ffn_up.bias", _N_FF)
        add(f"{block}.ffn_down.weight", N_EMBD, _N_FF, half=True)
        add(f"{block}.ffn_down.bias", N_EMBD)
        add_norm(f"{block}.ln1")
        add_norm(f"{block}.ln2")
    add_norm("v.post_ln")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def png(seed: int, width: int = _SIDE, height: int = _SIDE) -> bytes:
    """Return an image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, 3 * width), np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    return png_of(width, height, zlib.compress(lines))


def png_of(width: int, height: int, data: bytes) -> bytes:
    """Return a PNG that says it is that large, with that compressed data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
