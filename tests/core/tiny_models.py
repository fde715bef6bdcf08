"""Write tiny models with random weights, of the kinds that the bundled model is not, and LoRA adapters.

They take milliseconds to write and to run. What they say is noise; that it is the same noise each time, and
after a state came back, is what tests hold them to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

N_VOCAB = 64
N_EMBD = 32
N_LAYER = 2
N_CTX = 128
N_HEAD = 2
N_FF = 64

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CONTROL, _NORMAL, _BYTE, _UNKNOWN = 3, 1, 6, 2

Shapes = Mapping[str, tuple[int, ...]]


class _Writer:
    """A GGUF file in the making: metadata by ``self.gguf``, tensors by their shapes."""

    def __init__(self, path: Path, architecture: str) -> None:
        self.gguf = gguf.GGUFWriter(path, architecture)
        self._random = np.random.default_rng(7)

    def tensors(self, shapes: Shapes) -> None:
        for name, shape in shapes.items():
            self.gguf.add_tensor(name, self._values(name, shape))

    def _values(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if "norm" in name:
            return np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
        if name.endswith("ssm_a"):
            return -self._random.uniform(0.5, 2.0, shape).astype(np.float32)
        return (self._random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    def close(self) -> None:
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()


def _common(writer: _Writer, n_layer: int = N_LAYER) -> None:
    writer.gguf.add_context_length(N_CTX)
    writer.gguf.add_embedding_length(N_EMBD)
    writer.gguf.add_block_count(n_layer)
    writer.gguf.add_feed_forward_length(N_FF)
    writer.gguf.add_head_count(N_HEAD)


def _sentence_piece(writer: _Writer) -> None:
    """Add a vocabulary of letters with scores; ▁ writes a space."""
    words = [*_LETTERS, "▁", "▁a", "th", "he", "the", "in", "▁th"]
    tokens = ["<unk>", "<s>", "</s>", *words]
    types = [_UNKNOWN, _CONTROL, _CONTROL, *[_NORMAL] * len(words)]
    while len(tokens) < N_VOCAB:
        types.append(_BYTE)
        tokens.append(f"<0x{len(tokens):02X}>")
    writer.gguf.add_tokenizer_model("llama")
    writer.gguf.add_tokenizer_pre("default")
    writer.gguf.add_token_list(tokens)
    writer.gguf.add_token_scores([-float(i) for i in range(N_VOCAB)])
    writer.gguf.add_token_types(types)
    writer.gguf.add_bos_token_id(1)
    writer.gguf.add_eos_token_id(2)
    writer.gguf.add_unk_token_id(0)


def _word_piece(writer: _Writer) -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{letter}" for letter in _LETTERS), *_LETTERS]
    types = [_CONTROL, _UNKNOWN, *[_CONTROL] * 3, *[_NORMAL] * (2 * len(_LETTERS))]
    tokens += [f"[unused{i}]" for i in range(N_VOCAB - len(tokens))]
    types += [_NORMAL] * (N_VOCAB - len(types))
    writer.gguf.add_tokenizer_model("bert")
    writer.gguf.add_tokenizer_pre("default")
    writer.gguf.add_token_list(tokens)
    writer.gguf.add_token_types(types)
    writer.gguf.add_token_type_count(2)
    writer.gguf.add_unk_token_id(1)
    writer.gguf.add_sep_token_id(3)
    writer.gguf.add_pad_token_id(0)
    writer.gguf.add_mask_token_id(4)
    writer.gguf.add_bos_token_id(2)


def write_mamba(path: Path) -> None:
    """A recurrent model: one state for each sequence, no KV cache."""
    d_inner, d_state, d_conv, dt_rank = 2 * N_EMBD, 8, 4, 4
    writer = _Writer(path, "mamba")
    _common(writer)
    writer.gguf.add_layer_norm_rms_eps(1e-5)
    writer.gguf.add_ssm_conv_kernel(d_conv)
    writer.gguf.add_ssm_inner_size(d_inner)
    writer.gguf.add_ssm_state_size(d_state)
    writer.gguf.add_ssm_time_step_rank(dt_rank)
    _sentence_piece(writer)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (N_VOCAB, N_EMBD),
        "output_norm.weight": (N_EMBD,),
        "output.weight": (N_VOCAB, N_EMBD),
    }
    for i in range(N_LAYER):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (N_EMBD,),
            f"blk.{i}.ssm_in.weight": (2 * d_inner, N_EMBD),
            f"blk.{i}.ssm_conv1d.weight": (d_inner, d_conv),
            f"blk.{i}.ssm_conv1d.bias": (d_inner,),
            f"blk.{i}.ssm_x.weight": (dt_rank + 2 * d_state, d_inner),
            f"blk.{i}.ssm_dt.weight": (d_inner, dt_rank),
            f"blk.{i}.ssm_dt.bias": (d_inner,),
            f"blk.{i}.ssm_a": (d_inner, d_state),
            f"blk.{i}.ssm_d": (d_inner,),
            f"blk.{i}.ssm_out.weight": (N_EMBD, d_inner),
        }
    writer.tensors(shapes)
    writer.close()


def write_bert(path: Path) -> None:
    """An embedding model: no memory, learned positions, its own pooling, a classifier with labels."""
    writer = _Writer(path, "bert")
    _common(writer)
    writer.gguf.add_layer_norm_eps(1e-12)
    writer.gguf.add_causal_attention(False)
    writer.gguf.add_pooling_type(gguf.PoolingType.MEAN)
    writer.gguf.add_classifier_output_labels(["no", "yes"])
    _word_piece(writer)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (N_VOCAB, N_EMBD),
        "token_types.weight": (2, N_EMBD),
        "position_embd.weight": (N_CTX, N_EMBD),
        "token_embd_norm.weight": (N_EMBD,),
        "token_embd_norm.bias": (N_EMBD,),
        "cls.weight": (N_EMBD, N_EMBD),
        "cls.bias": (N_EMBD,),
        "cls.output.weight": (2, N_EMBD),
        "cls.output.bias": (2,),
    }
    for i in range(N_LAYER):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes |= {f"blk.{i}.{name}.weight": (N_EMBD, N_EMBD), f"blk.{i}.{name}.bias": (N_EMBD,)}
        for name in ("attn_output_norm", "layer_output_norm"):
            shapes |= {f"blk.{i}.{name}.weight": (N_EMBD,), f"blk.{i}.{name}.bias": (N_EMBD,)}
        shapes |= {
            f"blk.{i}.ffn_up.weight": (N_FF, N_EMBD),
            f"blk.{i}.ffn_up.bias": (N_FF,),
            f"blk.{i}.ffn_down.weight": (N_EMBD, N_FF),
            f"blk.{i}.ffn_down.bias": (N_EMBD,),
        }
    writer.tensors(shapes)
    writer.close()


def write_gemma3(path: Path) -> None:
    """A model with a sliding window of 16 tokens in all layers but the last, and tied embeddings."""
    writer = _Writer(path, "gemma3")
    _common(writer, n_layer=6)
    writer.gguf.add_layer_norm_rms_eps(1e-6)
    writer.gguf.add_head_count_kv(1)
    writer.gguf.add_key_length(16)
    writer.gguf.add_value_length(16)
    writer.gguf.add_sliding_window(16)
    _sentence_piece(writer)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (N_VOCAB, N_EMBD),
        "output_norm.weight": (N_EMBD,),
    }
    for i in range(6):
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            shapes[f"blk.{i}.{name}.weight"] = (N_EMBD,)
        shapes |= {
            f"blk.{i}.attn_q.weight": (16 * N_HEAD, N_EMBD),
            f"blk.{i}.attn_k.weight": (16, N_EMBD),
            f"blk.{i}.attn_v.weight": (16, N_EMBD),
            f"blk.{i}.attn_output.weight": (N_EMBD, 16 * N_HEAD),
            f"blk.{i}.attn_q_norm.weight": (16,),
            f"blk.{i}.attn_k_norm.weight": (16,),
            f"blk.{i}.ffn_gate.weight": (N_FF, N_EMBD),
            f"blk.{i}.ffn_up.weight": (N_FF, N_EMBD),
            f"blk.{i}.ffn_down.weight": (N_EMBD, N_FF),
        }
    writer.tensors(shapes)
    writer.close()


def _decoder_shapes(n_layer: int) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a plain decoder with an output matrix of its own."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (N_VOCAB, N_EMBD),
        "output_norm.weight": (N_EMBD,),
        "output.weight": (N_VOCAB, N_EMBD),
    }
    for i in range(n_layer):
        for name in ("attn_norm", "ffn_norm"):
            shapes[f"blk.{i}.{name}.weight"] = (N_EMBD,)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{i}.{name}.weight"] = (N_EMBD, N_EMBD)
        shapes |= {
            f"blk.{i}.ffn_gate.weight": (N_FF, N_EMBD),
            f"blk.{i}.ffn_up.weight": (N_FF, N_EMBD),
            f"blk.{i}.ffn_down.weight": (N_EMBD, N_FF),
        }
    return shapes


def write_llama(path: Path) -> None:
    """A plain decoder."""
    writer = _Writer(path, "llama")
    _common(writer)
    writer.gguf.add_layer_norm_rms_eps(1e-6)
    writer.gguf.add_rope_dimension_count(N_EMBD // N_HEAD)
    _sentence_piece(writer)
    writer.tensors(_decoder_shapes(N_LAYER))
    writer.close()


def write_qwen2vl(path: Path) -> None:
    """A decoder whose embeddings have several positions each (M-RoPE)."""
    writer = _Writer(path, "qwen2vl")
    _common(writer)
    writer.gguf.add_layer_norm_rms_eps(1e-6)
    writer.gguf.add_rope_dimension_sections([4, 2, 2, 0])
    _sentence_piece(writer)
    writer.tensors(_decoder_shapes(N_LAYER))
    writer.close()


def write_lfm2(path: Path) -> None:
    """A hybrid: a recurrent layer, then one with a KV cache."""
    writer = _Writer(path, "lfm2")
    _common(writer)
    writer.gguf.add_layer_norm_rms_eps(1e-6)
    writer.gguf.add_head_count_kv([0, N_HEAD])
    writer.gguf.add_shortconv_l_cache(3)
    _sentence_piece(writer)
    shapes = _decoder_shapes(N_LAYER)
    shapes["token_embd_norm.weight"] = shapes.pop("output_norm.weight")
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        del shapes[f"blk.0.{name}.weight"]
    shapes |= {
        "blk.0.shortconv.conv.weight": (N_EMBD, 3),
        "blk.0.shortconv.in_proj.weight": (3 * N_EMBD, N_EMBD),
        "blk.0.shortconv.out_proj.weight": (N_EMBD, N_EMBD),
        "blk.1.attn_q_norm.weight": (N_EMBD // N_HEAD,),
        "blk.1.attn_k_norm.weight": (N_EMBD // N_HEAD,),
    }
    writer.tensors(shapes)
    writer.close()


def write_t5(path: Path) -> None:
    """An encoder with a decoder, which attends to what was encoded."""
    writer = _Writer(path, "t5")
    _common(writer)
    writer.gguf.add_layer_norm_rms_eps(1e-6)
    writer.gguf.add_key_length(N_EMBD // N_HEAD)
    writer.gguf.add_value_length(N_EMBD // N_HEAD)
    writer.gguf.add_relative_attn_buckets_count(8)
    writer.gguf.add_decoder_start_token_id(0)
    _sentence_piece(writer)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (N_VOCAB, N_EMBD),
        "enc.output_norm.weight": (N_EMBD,),
        "dec.output_norm.weight": (N_EMBD,),
        "output.weight": (N_VOCAB, N_EMBD),
    }
    for i in range(N_LAYER):
        for side, attentions in (("enc", ("attn",)), ("dec", ("attn", "cross_attn"))):
            prefix = f"{side}.blk.{i}"
            for attention in attentions:
                shapes |= {f"{prefix}.{attention}_{part}.weight": (N_EMBD, N_EMBD) for part in "qkvo"}
                shapes[f"{prefix}.{attention}_norm.weight"] = (N_EMBD,)
            shapes |= {
                f"{prefix}.attn_rel_b.weight": (8, N_HEAD),
                f"{prefix}.ffn_norm.weight": (N_EMBD,),
                f"{prefix}.ffn_up.weight": (N_FF, N_EMBD),
                f"{prefix}.ffn_down.weight": (N_EMBD, N_FF),
            }
    writer.tensors(shapes)
    writer.close()


WRITERS: dict[str, Callable[[Path], None]] = {
    "mamba": write_mamba,
    "bert": write_bert,
    "gemma3": write_gemma3,
    "llama": write_llama,
    "qwen2vl": write_qwen2vl,
    "lfm2": write_lfm2,
    "t5": write_t5,
}


def write_lora(
    path: Path,
    architecture: str,
    shapes: Shapes,
    *,
    meta: Mapping[str, object] | None = None,
    invocation_tokens: list[int] | None = None,
) -> None:
    """Write an adapter of matrices by their names and shapes (rows, columns)."""
    writer = _Writer(path, architecture)
    metadata: dict[str, object] = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 4.0,
    }
    for key, value in (metadata | dict(meta or {})).items():
        if isinstance(value, str):
            writer.gguf.add_string(key, value)
        elif isinstance(value, float):
            writer.gguf.add_float32(key, value)
        else:
            writer.gguf.add_uint32(key, value)
    if invocation_tokens is not None:
        writer.gguf.add_key_value(
            "adapter.alora.invocation_tokens",
            invocation_tokens,
            gguf.GGUFValueType.ARRAY,
            gguf.GGUFValueType.UINT32,
        )
    writer.tensors(shapes)
    writer.close()
