"""The Qwen3 network in PyTorch, small enough for one CPU thread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the names are those of the GGUF keys."""

    n_vocab: int
    n_embd: int = 128
    n_layer: int = 5
    n_head: int = 4
    n_head_kv: int = 2
    n_ff: int = 384
    rope_base: float = 10_000.0
    rms_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Return the size of one attention head."""
        return self.n_embd // self.n_head


Cache = list[tuple[Tensor, Tensor]]


class Layer(nn.Module):
    """One transformer block: attention with normed queries and keys, then a gated feed-forward net."""

    def __init__(self, shape: Shape) -> None:
        """Make the weights, named as in GGUF."""
        super().__init__()
        self.shape = shape
        kv_size = shape.n_head_kv * shape.head_dim
        self.attn_norm = nn.RMSNorm(shape.n_embd, shape.rms_eps)
        self.attn_q = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.attn_k = nn.Linear(shape.n_embd, kv_size, bias=False)
        self.attn_v = nn.Linear(shape.n_embd, kv_size, bias=False)
        self.attn_q_norm = nn.RMSNorm(shape.head_dim, shape.rms_eps)
        self.attn_k_norm = nn.RMSNorm(shape.head_dim, shape.rms_eps)
        self.attn_output = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.n_embd, shape.rms_eps)
        self.ffn_gate = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.ffn_up = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.ffn_down = nn.Linear(shape.n_ff, shape.n_embd, bias=False)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        lengths: list[int],
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Process tokens (n_tokens, n_embd) of documents of these `lengths`; `past` continues one."""
        head_dim = self.shape.head_dim
        normed = self.attn_norm(x)
        q = _rotate(self.attn_q_norm(self.attn_q(normed).unflatten(-1, (-1, head_dim))), rotation)
        k = _rotate(self.attn_k_norm(self.attn_k(normed).unflatten(-1, (-1, head_dim))), rotation)
        v = self.attn_v(normed).unflatten(-1, (-1, head_dim))
        if past is not None:
            k, v = torch.cat((past[0], k)), torch.cat((past[1], v))
        kept = k, v
        group = self.shape.n_head // self.shape.n_head_kv
        heads = (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))
        q, k, v = (head.transpose(0, 1) for head in heads)
        mixed = _attend(q, k, v, lengths if past is None else None)
        x = x + self.attn_output(mixed.transpose(0, 1).flatten(1))
        normed = self.ffn_norm(x)
        x = x + self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed))
        return x, kept


class Network(nn.Module):
    """A decoder with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        """Make the weights from PyTorch's current random state."""
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)
        nn.init.normal_(self.token_embd.weight, std=0.05)
        layers = [Layer(shape) for _ in range(shape.n_layer)]
        self.blk = nn.ModuleList(layers)
        self.output_norm = nn.RMSNorm(shape.n_embd, shape.rms_eps)
        for layer in layers:
            nn.init.zeros_(layer.attn_output.weight)
            nn.init.zeros_(layer.ffn_down.weight)

    def forward(self, tokens: Tensor, lengths: list[int], wanted: Tensor | None = None) -> Tensor:
        """Return logits for packed documents, of all tokens or only of those at the `wanted` indices."""
        positions = torch.cat([torch.arange(n) for n in lengths])
        hidden, _ = self._run(tokens, positions, lengths, None)
        return F.linear(
            self.output_norm(hidden if wanted is None else hidden[wanted]), self.token_embd.weight
        )

    def decode(self, tokens: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """Return the logits of the last token and the cache; after the first call, one token at a time."""
        n_past = 0 if cache is None else len(cache[0][0])
        hidden, cache = self._run(tokens, torch.arange(n_past, n_past + len(tokens)), [len(tokens)], cache)
        return F.linear(self.output_norm(hidden[-1]), self.token_embd.weight), cache

    def _run(
        self, tokens: Tensor, positions: Tensor, lengths: list[int], past: Cache | None
    ) -> tuple[Tensor, Cache]:
        half = self.shape.head_dim // 2
        frequencies = self.shape.rope_base ** -(torch.arange(half) / half)
        angles = (positions[:, None] * frequencies)[:, None, :]
        rotation = angles.cos(), angles.sin()
        x = self.token_embd(tokens)
        cache: Cache = []
        for i, layer in enumerate(self.blk):
            x, kept = layer(x, rotation, lengths, None if past is None else past[i])
            cache.append(kept)
        return x, cache


def _attend(q: Tensor, k: Tensor, v: Tensor, lengths: list[int] | None) -> Tensor:
    """Attend within documents of these `lengths`; without, every query sees all keys."""
    if lengths is None:
        return F.scaled_dot_product_attention(q, k, v)
    parts = zip(*(torch.split(head, lengths, dim=1) for head in (q, k, v)), strict=True)
    return torch.cat([F.scaled_dot_product_attention(q, k, v, is_causal=True) for q, k, v in parts], dim=1)


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions to (n_tokens, n_head, head_dim), halves paired (NEOX style)."""
    cos, sin = rotation
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
