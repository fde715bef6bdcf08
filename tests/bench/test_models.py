from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")

from bench.models import Shape, random_q8_0, word_scale, write_model  # noqa: E402

TOKENS = ["!", "Ġword", "Ġä", "word", "<|im_end|>", "wor<"]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([1, 1, 1, 1, 3, 1])
    writer.add_token_merges(["w o"])
    writer.add_eos_token_id(4)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_model_has_its_shape_its_vocabulary_and_the_same_bytes_again(
    vocabulary: Path, tmp_path: Path
) -> None:
    shape = Shape("tiny", layers=2, width=64, feed_forward=96, heads=2, kv_heads=1, head_size=32)
    one, other = tmp_path / "one.gguf", tmp_path / "other.gguf"
    write_model(shape, one, seed=7, vocabulary=vocabulary)
    write_model(shape, other, seed=7, vocabulary=vocabulary)
    assert one.read_bytes() == other.read_bytes()

    reader = gguf.GGUFReader(one)
    assert reader.fields["tokenizer.ggml.tokens"].contents() == TOKENS
    assert reader.fields["tokenizer.ggml.eos_token_id"].contents() == 4
    assert reader.fields["qwen3.attention.key_length"].contents() == 32
    assert "<|im_start|>" in reader.fields["tokenizer.chat_template"].contents()
    shapes = {tensor.name: tuple(map(int, tensor.shape)) for tensor in reader.tensors}
    assert shapes["token_embd.weight"] == (64, 6)
    assert shapes["blk.1.attn_k.weight"] == (64, 32)
    assert shapes["blk.1.ffn_down.weight"] == (96, 64)
    assert len(shapes) == 2 + 2 * 11


def test_weights_keep_the_size_of_what_they_multiply() -> None:
    blocks = random_q8_0(256, 1024, np.random.default_rng(1))
    weights = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    assert weights.shape == (256, 1024)
    product = weights @ np.random.default_rng(2).standard_normal(1024).astype(np.float32)
    assert 0.8 < float(np.std(product)) < 1.2


def test_only_plain_words_can_win() -> None:
    assert word_scale(TOKENS).tolist() == pytest.approx([0.01, 1, 0.01, 1, 0.01, 0.01])
