"""Train the demo model on one CPU thread: `python -m pyllama.models.training.train OUT.pt`."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch.nn import functional as F

from .conversations import Document, draw_document, draw_texts
from .network import Network, Shape
from .optimizer import Muon
from .tokenizer import Tokenizer, collect_words

SEED = 20261120
N_WORDS = 360
N_BATCH = 2048  # tokens a step
N_DOCUMENT = 1024  # longest document
WARMUP = 100
MATRIX_RATE = 0.015
VECTOR_RATE = 0.003


def make_tokenizer() -> Tokenizer:
    """Build the vocabulary from conversations drawn with the fixed seed."""
    return Tokenizer(collect_words(draw_texts(random.Random(SEED), 5000), N_WORDS))


def _batches(tokenizer: Tokenizer, seed: int) -> Iterator[list[Document]]:
    rng = random.Random(seed)
    batch: list[Document] = []
    n_tokens = 0
    while True:
        document = draw_document(rng, tokenizer)
        if len(document.tokens) > N_DOCUMENT:
            continue
        if n_tokens + len(document.tokens) > N_BATCH:
            yield batch
            batch, n_tokens = [], 0
        batch.append(document)
        n_tokens += len(document.tokens)


def _loss(network: Network, batch: list[Document]) -> torch.Tensor:
    tokens = torch.tensor([token for document in batch for token in document.tokens])
    learnt = torch.tensor([flag for document in batch for flag in document.learnt])
    wanted = learnt.nonzero()[:, 0]  # never the first token of a document
    logits = network(tokens, [len(document.tokens) for document in batch], wanted - 1)
    return F.cross_entropy(logits, tokens[wanted])


def _rate(step: int, n_steps: int) -> float:
    """Return the factor on the learning rates: warm-up, plateau, and a linear fall over the last 65 %."""
    return min((step + 1) / WARMUP, 1.0, (n_steps - step) / (0.65 * n_steps))


def save(path: Path, network: Network, tokenizer: Tokenizer, step: int) -> None:
    """Write a checkpoint that `load` can read, replacing the old one at once."""
    draft = path.with_suffix(".part")
    torch.save({"words": tokenizer.words, "weights": network.state_dict(), "step": step}, draft)
    draft.replace(path)


def load(path: Path) -> tuple[Network, Tokenizer]:
    """Read a checkpoint."""
    checkpoint = torch.load(path, weights_only=True)
    tokenizer = Tokenizer(checkpoint["words"])
    network = Network(Shape(tokenizer.n_vocab))
    network.load_state_dict(checkpoint["weights"])
    return network.eval(), tokenizer


def train(out: Path, n_steps: int, start: Path | None, seed: int, factor: float) -> None:
    """Train for `n_steps`, from the weights of `start` if given, writing a checkpoint every 250."""
    torch.manual_seed(SEED)
    if start is None:
        tokenizer = make_tokenizer()
        network = Network(Shape(tokenizer.n_vocab))
    else:
        network, tokenizer = load(start)
    matrices = [p for p in network.blk.parameters() if p.ndim == 2]
    rest = [p for p in network.parameters() if p.ndim == 1] + [network.token_embd.weight]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(rest, lr=VECTOR_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    print(f"{sum(p.numel() for p in network.parameters()):,} weights, {tokenizer.n_vocab} tokens", flush=True)
    started, mean, n_seen = time.monotonic(), 0.0, 0
    for step, batch in enumerate(islice(_batches(tokenizer, seed), n_steps)):
        rate = factor * _rate(step, n_steps)
        loss = _loss(network, batch)
        network.zero_grad()
        torch.autograd.backward(loss)
        muon.step(MATRIX_RATE * rate)
        for group in adam.param_groups:
            group["lr"] = VECTOR_RATE * rate
        adam.step()
        n_seen += sum(len(document.tokens) for document in batch)
        mean += loss.item() / 50
        if (step + 1) % 50 == 0:
            seconds = time.monotonic() - started
            print(f"step {step + 1} tokens {n_seen:,} loss {mean:.4f} seconds {seconds:.0f}", flush=True)
            mean = 0.0
        if (step + 1) % 250 == 0 or step + 1 == n_steps:
            save(out, network, tokenizer, step + 1)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="checkpoint to write")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from")
    parser.add_argument("--seed", type=int, default=SEED + 1, help="seed of the conversations")
    parser.add_argument("--factor", type=float, default=1.0, help="on the learning rates")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(arguments.out, arguments.steps, arguments.start, arguments.seed, arguments.factor)


if __name__ == "__main__":
    main()
