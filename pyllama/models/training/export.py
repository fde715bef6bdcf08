"""Write a checkpoint as GGUF: `python -m pyllama.models.training.export IN.pt OUT.gguf`."""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

from .conversations import TEMPLATE
from .network import Network
from .tokenizer import CONTROL, USER_DEFINED, Tokenizer
from .train import load

N_CONTEXT = 4096  # trained on at most 1,024; beyond, the mechanics work but answers are poor


def _add_metadata(writer: gguf.GGUFWriter, network: Network) -> None:
    shape = network.shape
    writer.add_name("pyllama-demo")
    writer.add_description("A tiny reasoning model for the quick start and the tests of pyllama")
    writer.add_license("mit")
    writer.add_size_label(f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}M")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_context_length(N_CONTEXT)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.rms_eps)
    writer.add_rope_freq_base(shape.rope_base)


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    plain = tokenizer.n_vocab - len(CONTROL) - len(USER_DEFINED)
    types = [gguf.TokenType.NORMAL] * plain
    types += [gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.USER_DEFINED] * len(USER_DEFINED)
    tokens = tokenizer.gguf_tokens()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])  # the loader wants one; these two bytes never meet
    writer.add_bos_token_id(tokenizer.specials["<|endoftext|>"])
    writer.add_pad_token_id(tokenizer.specials["<|endoftext|>"])
    writer.add_eos_token_id(tokenizer.specials["<|im_end|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def export(checkpoint: Path, out: Path) -> None:
    """Write the weights in F16, the norms in F32."""
    network, tokenizer = load(checkpoint)
    writer = gguf.GGUFWriter(out, "qwen3")
    _add_metadata(writer, network)
    _add_vocabulary(writer, tokenizer)
    for name, weight in network.state_dict().items():
        writer.add_tensor(name, weight.numpy().astype(np.float16 if weight.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()
