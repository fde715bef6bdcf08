"""Write models of a real shape with random weights, so that the benchmark needs no download.

The vocabulary is that of the vendored tree's vocabulary files. Weights are scaled so that activations keep
their size from layer to layer. Only tokens that are plain words can win: the embedding rows of all others,
which are also the output rows, are near zero. So a greedy answer is garbage, but whole and valid text in
every token, and it costs what a real answer costs. Run as ``python -m bench.models``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from bench.paths import OUT, VENDORED_TREE

VOCABULARY = VENDORED_TREE / "models" / "ggml-vocab-qwen2.gguf"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)

_Q8_0 = gguf.GGMLQuantizationType.Q8_0
_BLOCK = 32  # weights per Q8_0 block, which is a float16 scale and as many int8
_BLOCK_BYTES = 2 + _BLOCK
_QUANT_DEVIATION = 73.3  # standard deviation of uniform integers in [-127, 127]
_NEAR_ZERO = 0.01
_PLAIN_WORD = re.compile(r"Ġ?[A-Za-z]+")  # Ġ is how byte-level BPE writes a space


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a qwen3 model with tied embeddings."""

    name: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int = 128
    context: int = 40960

    @property
    def path(self) -> Path:
        return OUT / f"{self.name}-q8_0.gguf"


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("qwen3-0.6b", layers=28, width=1024, feed_forward=3072, heads=16, kv_heads=8),
        Shape("medium", layers=12, width=512, feed_forward=1536, heads=8, kv_heads=4, head_size=64),
        Shape("small", layers=2, width=256, feed_forward=768, heads=4, kv_heads=2, head_size=64),
    )
}


def tensors(shape: Shape, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each tensor's name and its rows and columns."""
    heads, kv_heads = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    yield "token_embd.weight", (vocabulary, shape.width)
    yield "output_norm.weight", (shape.width,)
    for layer in range(shape.layers):
        prefix = f"blk.{layer}"
        yield f"{prefix}.attn_norm.weight", (shape.width,)
        yield f"{prefix}.attn_q.weight", (heads, shape.width)
        yield f"{prefix}.attn_k.weight", (kv_heads, shape.width)
        yield f"{prefix}.attn_v.weight", (kv_heads, shape.width)
        yield f"{prefix}.attn_output.weight", (shape.width, heads)
        yield f"{prefix}.attn_q_norm.weight", (shape.head_size,)
        yield f"{prefix}.attn_k_norm.weight", (shape.head_size,)
        yield f"{prefix}.ffn_norm.weight", (shape.width,)
        yield f"{prefix}.ffn_gate.weight", (shape.feed_forward, shape.width)
        yield f"{prefix}.ffn_up.weight", (shape.feed_forward, shape.width)
        yield f"{prefix}.ffn_down.weight", (shape.width, shape.feed_forward)


def random_q8_0(
    rows: int, columns: int, generator: np.random.Generator, row_scale: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.uint8]:
    """Return random weights of deviation 1/√columns as Q8_0 blocks, shape (rows, bytes per row)."""
    blocks = columns // _BLOCK
    scale = np.full(rows, 1 / (np.sqrt(columns) * _QUANT_DEVIATION), dtype=np.float32)
    if row_scale is not None:
        scale *= row_scale
    out = np.empty((rows, blocks, _BLOCK_BYTES), dtype=np.uint8)
    out[:, :, :2] = scale.astype(np.float16).view(np.uint8).reshape(rows, 1, 2)
    out[:, :, 2:] = generator.integers(-127, 128, (rows, blocks, _BLOCK), dtype=np.int8).view(np.uint8)
    return out.reshape(rows, blocks * _BLOCK_BYTES)


def word_scale(tokens: list[str]) -> npt.NDArray[np.float32]:
    """Return 1 for each token that is a plain word, and nearly 0 for the others."""
    scale = [1.0 if _PLAIN_WORD.fullmatch(token) else _NEAR_ZERO for token in tokens]
    return np.array(scale, dtype=np.float32)


def write_model(shape: Shape, path: Path, seed: int = 1, vocabulary: Path = VOCABULARY) -> None:
    """Write a model to `path`; the same seed gives the same file."""
    reader = gguf.GGUFReader(vocabulary)
    tokens: list[str] = reader.fields["tokenizer.ggml.tokens"].contents()
    writer = gguf.GGUFWriter(None, "qwen3")
    writer.add_name(f"random {shape.name}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    _copy_vocabulary(reader, writer)

    generator = np.random.default_rng(seed)
    scales = {"token_embd.weight": word_scale(tokens)}
    for name, dimensions in tensors(shape, len(tokens)):
        if len(dimensions) == 1:
            writer.add_tensor(name, np.ones(dimensions, dtype=np.float32))
        else:
            weights = random_q8_0(dimensions[0], dimensions[1], generator, scales.get(name))
            writer.add_tensor(name, weights, raw_dtype=_Q8_0)

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    writer.write_header_to_file(part)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def _copy_vocabulary(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for key, entry in reader.fields.items():
        if not key.startswith("tokenizer.ggml."):
            continue
        item = entry.types[1] if entry.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, entry.contents(), entry.types[0], item)
    writer.add_chat_template(CHAT_TEMPLATE)


def ensure_model(name: str) -> Path:
    """Return the path of a model by its shape's name, and write the file where it is missing."""
    shape = SHAPES[name]
    if not shape.path.is_file():
        print(f"writing {shape.path}", file=sys.stderr)
        write_model(shape, shape.path)
    return shape.path


def main() -> int:
    """Write the models that are missing, and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(SHAPES)} (default: all)")
    args = parser.parse_args()
    unknown = set(args.names) - set(SHAPES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for name in args.names or SHAPES:
        print(ensure_model(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
