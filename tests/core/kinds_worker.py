"""Makes random calls, right and wrong, on a model of another kind: ``kinds_worker.py MODEL SEED N_CALLS``.

Every call may fail with an error of pyllama's or Python's own kinds; a crash is seen by the parent.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pyllama import Batch, Context, Model, PyllamaError

EXPECTED = (PyllamaError, IndexError, TypeError, ValueError, OverflowError)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"kv_unified": False},
    {"swa_full": False},
    {"flash_attn": False},
    {"attention_type": "non-causal"},
    {"n_outputs_max": 4},
    {"embeddings": True, "pooling": "none"},
    {"embeddings": True, "pooling": "last"},
    {"embeddings": True, "pooling": "mean"},
    {"embeddings": True, "pooling": "rank"},
    {"rope_scaling_type": "yarn", "rope_freq_scale": 0.25},
]


class Player:
    """A context with a batch and what was saved of it, and the calls that are made at random."""

    def __init__(self, model: Model, dice: random.Random) -> None:
        self.dice = dice
        sizes = {"n_ctx": 64, "n_batch": 48, "n_ubatch": 16, "n_seq_max": 2, "n_threads": 1}
        # The first six go with any of the others.
        self.context = Context(model, **{**sizes, **dice.choice(OPTIONS), **dice.choice(OPTIONS[:6])})
        self.batch = Batch(50, 2, n_embd=dice.choice([0, 7, model.n_embd_inp, model.n_embd_inp]))
        self.saved: list[Any] = [b""]
        self.calls: list[Callable[[], object]] = [
            *[self.go_on] * 6,
            *[self.encode] * 2,
            self.share,
            self.mix,
            self.read,
            self.read_pooled,
            self.remove,
            self.copy,
            self.move,
            self.save,
            self.restore,
            self.steer,
            self.switch,
            self.cancel,
            lambda: self.context.memory.clear(self.dice.random() < 0.5),
        ]

    def near(self, low: int = -2, high: int = 20) -> int:
        number = self.dice.randint(low, high)
        return self.dice.choice([number, number, number, 1 << 29, -(1 << 31)])

    def seq(self) -> int:
        return self.dice.choice([0, 0, 1, 1, -1, 2, 255])

    def next_position(self, seq_id: int) -> int:
        try:
            return self.context.memory.seq_pos_max(seq_id) + 1
        except PyllamaError:  # no memory: each batch starts anew
            return 0

    def go_on(self) -> None:
        seq_id = self.dice.randint(0, 1)
        self.batch.clear()
        self.batch.add_sequence(
            [self.dice.randint(0, 63)] * self.dice.randint(1, 20),
            self.next_position(seq_id),
            seq_id,
            self.dice.choice(["last", "all", "none"]),
        )
        self.context.decode(self.batch)

    def encode(self) -> None:
        self.batch.clear()
        self.batch.add_sequence([5] * self.dice.randint(1, 18), 0, self.dice.randint(0, 1))
        self.context.encode(self.batch)

    def share(self) -> None:
        self.batch.clear()
        self.batch.add(5, max(self.next_position(0), self.next_position(1)), [0, 1], logits=True)
        self.context.decode(self.batch)

    def mix(self) -> None:
        n_embd = self.context.model.n_embd_inp
        pos = self.next_position(0)
        self.batch.clear()
        if self.dice.random() < 0.5:
            self.batch.add(self.near(0, 70), pos, 0)
            pos += 1
        value = self.dice.choice([0.1, 1e30, np.nan])
        self.batch.add_embeddings(np.full((self.dice.randint(1, 5), n_embd), value), pos, 0)
        self.context.decode(self.batch)

    def read(self) -> None:
        self.context.logits_all()
        self.context.logits(self.near())
        with self.context.logits_view(self.near()) as view:
            view[self.near()] = 1.0

    def read_pooled(self) -> None:
        self.dice.choice([self.context.embeddings_seq, self.context.embeddings])(self.seq())
        self.context.embeddings_all()

    def remove(self) -> None:
        self.context.memory.seq_rm(self.seq(), self.near(), self.near())

    def copy(self) -> None:
        self.context.memory.seq_cp(self.seq(), self.seq(), self.near(), self.near())
        self.context.memory.seq_keep(self.seq())

    def move(self) -> None:
        memory = self.context.memory
        if self.dice.random() < 0.5:
            memory.seq_add(self.seq(), self.near(), self.near(), self.near(-5, 5))
        else:
            memory.seq_div(self.seq(), self.near(), self.near(), self.near(0, 3))

    def save(self) -> None:
        self.saved.append(
            self.context.state_get()
            if self.dice.random() < 0.3
            else self.context.state_seq_get(self.seq(), partial=self.dice.random() < 0.5)
        )

    def restore(self) -> None:
        state = bytearray(self.dice.choice(self.saved))
        if state and self.dice.random() < 0.3:
            state[self.dice.randrange(len(state))] ^= 1 + self.dice.randrange(255)
        if self.dice.random() < 0.3:
            self.context.state_set(state)
        else:
            self.context.state_seq_set(self.seq(), state)

    def steer(self) -> None:
        model = self.context.model
        rows = np.zeros((model.n_layer - self.dice.choice([1, 1, 0]), model.n_embd))
        layers = self.dice.choice([None, (1, 1), (0, 9)])
        self.context.set_control_vector(self.dice.choice([None, rows]), layers)

    def switch(self) -> None:
        value = self.dice.random() < 0.5
        self.dice.choice([self.context.set_embeddings, self.context.set_causal_attn])(value)
        self.context.set_n_threads(self.dice.randint(0, 2))

    def cancel(self) -> None:
        self.context.cancel()
        self.go_on()

    def play(self, n_calls: int) -> None:
        for _ in range(n_calls):
            try:
                self.dice.choice(self.calls)()
            except EXPECTED:
                continue


def main() -> None:
    path, seed, n_calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    dice = random.Random(seed)
    with Model(path, n_gpu_layers=0) as model:
        for _ in range(12):
            try:
                player = Player(model, dice)
            except PyllamaError:  # options that this kind of model refuses
                continue
            player.play(n_calls // 12)
            player.context.close()
    print("ok")


if __name__ == "__main__":
    main()
