"""The fuzz test's calls of contexts, batches, memory, state and adapters, with numbers as arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pyllama import Batch, LoraAdapter, PyllamaError, ThreadPool
from pyllama.samplers import greedy

if TYPE_CHECKING:
    from fuzz_worker import Handles

OUTPUTS = ("last", "all", "none")


def mostly(good: int, number: int) -> int:
    """Return a value that works, or now and then the number as it is."""
    return number if number % 5 == 0 else good


def sequence(number: int) -> int:
    return mostly(abs(number) % 3, number)


def next_position(handles: Handles, seq_id: int) -> int:
    try:
        return handles.context.memory.seq_pos_max(seq_id) + 1
    except PyllamaError:  # no memory: each batch begins anew
        return 0


def continue_sequence(handles: Handles, a: int, b: int, c: int) -> None:
    """Tokens at the right place; all of them outputs, the last, or none."""
    batch, seq_id = handles.batch, abs(a) % 3
    batch.clear()
    batch.add_sequence(
        [5 + abs(c) % 40] * (1 + abs(b) % 70), next_position(handles, seq_id), seq_id, OUTPUTS[c % 3]
    )
    handles.context.decode(batch)


def continue_one(handles: Handles, a: int, b: int, c: int) -> None:
    """One token of a sequence, as a loop decodes, or one that two of them share."""
    batch, shared = handles.batch, c % 5 == 0
    pos = max(next_position(handles, seq_id) for seq_id in ([0, 1] if shared else [abs(a) % 3]))
    batch.clear()
    batch.add(abs(b) % 50, pos, [0, 1] if shared else abs(a) % 3, logits=c % 4 != 1)
    handles.context.decode(batch)


def encode_sequence(handles: Handles, a: int, b: int, c: int) -> None:
    handles.batch.clear()
    handles.batch.add_sequence([5] * (1 + abs(b) % 40), 0, abs(a) % 3)
    handles.context.encode(handles.batch)


def decode_image(handles: Handles, a: int, b: int, c: int) -> None:
    """Text, then rows at places in three or four sections, here and there wrong ones."""
    n, width, pos = 1 + abs(b) % 9, handles.model.n_embd_inp, next_position(handles, abs(a) % 3)
    batch = Batch(12, 3, n_embd=width)
    if b % 2:
        batch.add(5, pos, abs(a) % 3)
        pos += 1
    places = [[pos, pos + i // 3, pos + i % 3, c % 2][: 3 + b % 2] for i in range(n)]
    places[c % n][a % 3] = c if c % 3 == 0 else pos
    batch.add_embeddings(np.full((n, width), [1e-3, 1.0, 1e30][c % 3]), places, abs(a) % 3, OUTPUTS[b % 3])
    handles.context.decode(batch)


def take_back(handles: Handles, a: int, b: int, c: int) -> None:
    """As speculative decoding does: remove some of the last tokens."""
    seq_id = abs(a) % 3
    handles.context.memory.seq_rm(seq_id, next_position(handles, seq_id) - 1 - abs(b) % 6)


def decode_embeddings(handles: Handles, a: int, b: int, c: int) -> None:
    """Rows in place of tokens, of the model's width or, now and then, of another."""
    context, seq_id = handles.context, abs(a) % 3
    width = handles.model.n_embd_inp if c % 5 else abs(c) % 300 + 1
    batch = Batch(1 + abs(b) % 70, 3, n_embd=width)
    rows = np.full((1 + abs(b) % 70, width), [0, 1, 1e30, np.nan][c % 4], dtype=np.float32)
    batch.add_embeddings(rows, next_position(handles, seq_id), seq_id, OUTPUTS[b % 3])
    context.decode(batch)


def view(handles: Handles, a: int, b: int, c: int) -> None:
    with handles.context.logits_view(mostly(-1, a)) as logits:
        logits[b] = float(c)


def save(handles: Handles, a: int, b: int, c: int) -> None:
    handles.state = handles.context.state_seq_get(sequence(a), partial=b % 4 == 0)


def restore_garbage(handles: Handles, a: int, b: int, c: int) -> None:
    garbage = bytearray(handles.state)
    garbage[b] ^= 1 + c % 255
    handles.context.state_seq_set(sequence(a), garbage[: c if c % 3 == 0 else None])


def restore_all_garbage(handles: Handles, a: int, b: int, c: int) -> None:
    garbage = bytearray(handles.whole_state)
    garbage[b % 200] ^= 1 + c % 255
    handles.context.state_set(garbage[: c if c % 3 == 0 else None])


def save_all(handles: Handles, a: int, b: int, c: int) -> None:
    handles.whole_state = handles.context.state_get()


def damage_file(handles: Handles, a: int, b: int, c: int) -> None:
    data = bytearray(handles.file.read_bytes())
    data[b % 64] ^= 1 + c % 255
    handles.file.write_bytes(data[: a if a % 2 else None])


def adapter(handles: Handles, a: int, b: int, c: int) -> None:
    with LoraAdapter(handles.model, handles.adapter_file) as lora:
        handles.context.set_adapters({lora: float(b % 1000)})
        if c % 2:
            lora.close()
        handles.context.set_adapters({})


def control_vector(handles: Handles, a: int, b: int, c: int) -> None:
    model = handles.model
    data = np.zeros((max(model.n_layer - 1, 1) + a % 2, model.n_embd), dtype=np.float32)
    handles.context.set_control_vector(None if b % 5 == 0 else data, (b, c) if c % 2 else None)


def look(handles: Handles, a: int, b: int, c: int) -> None:
    context = handles.context
    repr((context, context.perf(), context.n_ctx_seq, context.pooling, context.causal_attn, context.adapters))
    repr((context.memory.can_shift, context.memory.seq_pos_min(a), len(handles.batch), handles.batch))


def text(handles: Handles, a: int, b: int, c: int) -> None:
    vocab = handles.model.vocab
    words = vocab.detokenize([a, b, c], remove_special=bool(a % 2), unparse_special=bool(b % 2))
    vocab.tokenize(words * (abs(c) % 50), add_special=bool(b % 2), parse_special=bool(c % 2))
    repr((vocab.token_to_piece(a), vocab.text(b), vocab.score(c), vocab.attr(a), vocab.is_eog(b)))


def threads(handles: Handles, a: int, b: int, c: int) -> None:
    if a % 3 == 0:
        handles.context.detach_threads()
        return
    pools = [ThreadPool(1 + abs(n) % 3, poll=0) if n < 600 else ThreadPool(n) for n in (b, c)]
    handles.context.attach_threads(pools[0], pools[1] if a % 3 == 1 else None)


CALLS: dict[str, Callable[[Handles, int, int, int], object]] = {
    "add": lambda handles, a, b, c: handles.batch.add(a, b, [c], logits=True),
    "add_two": lambda handles, a, b, c: handles.batch.add(a, b, [c, 1], logits=False),
    "add_sequence": lambda handles, a, b, c: handles.batch.add_sequence(
        [a] * (abs(b) % 90), max(c, 0), abs(a) % 4, OUTPUTS[b % 3]
    ),
    "continue": continue_sequence,
    "continue_one": continue_one,
    "decode_image": decode_image,
    "take_back": take_back,
    "threads": threads,
    "graph_greedy": lambda handles, a, b, c: handles.context.set_sampler(abs(a) % 3, [greedy()]),
    "graph_off": lambda handles, a, b, c: handles.context.set_sampler(sequence(a), None),
    "sampled": lambda handles, a, b, c: handles.context.sampled(mostly(-1, a)),
    "sampled_token": lambda handles, a, b, c: handles.context.sampled_token(mostly(-1, a)),
    "accept_in_graph": lambda handles, a, b, c: handles.context.accept(sequence(a), mostly(abs(b) % 60, b)),
    "decode_embeddings": decode_embeddings,
    "clear_batch": lambda handles, a, b, c: handles.batch.clear(),
    "decode": lambda handles, a, b, c: handles.context.decode(handles.batch),
    "encode": lambda handles, a, b, c: handles.context.encode(handles.batch),
    "encode_sequence": encode_sequence,
    "cancel": lambda handles, a, b, c: handles.context.cancel(),
    "logits": lambda handles, a, b, c: handles.context.logits(mostly(-1, a)),
    "logits_all": lambda handles, a, b, c: handles.context.logits_all(),
    "view": view,
    "embeddings": lambda handles, a, b, c: handles.context.embeddings(mostly(-1, a)),
    "embeddings_all": lambda handles, a, b, c: handles.context.embeddings_all(),
    "embeddings_seq": lambda handles, a, b, c: handles.context.embeddings_seq(sequence(a)),
    "set_embeddings": lambda handles, a, b, c: handles.context.set_embeddings(bool(a % 2)),
    "set_causal_attn": lambda handles, a, b, c: handles.context.set_causal_attn(bool(a % 2)),
    "set_n_threads": lambda handles, a, b, c: handles.context.set_n_threads(
        a if a < 4 else 1, 1 if b > 4 else b
    ),
    "seq_rm": lambda handles, a, b, c: handles.context.memory.seq_rm(sequence(a), b, c),
    "seq_cp": lambda handles, a, b, c: handles.context.memory.seq_cp(sequence(a), sequence(b), mostly(-1, c)),
    "seq_keep": lambda handles, a, b, c: handles.context.memory.seq_keep(sequence(a)),
    "seq_add": lambda handles, a, b, c: handles.context.memory.seq_add(sequence(a), mostly(-1, b), -1, c),
    "seq_div": lambda handles, a, b, c: handles.context.memory.seq_div(sequence(a), -1, mostly(-1, b), c),
    "clear": lambda handles, a, b, c: handles.context.memory.clear(bool(a % 2)),
    "save": save,
    "restore": lambda handles, a, b, c: handles.context.state_seq_set(sequence(a), handles.state),
    "restore_garbage": restore_garbage,
    "save_all": save_all,
    "restore_all": lambda handles, a, b, c: handles.context.state_set(handles.whole_state),
    "restore_all_garbage": restore_all_garbage,
    "save_file": lambda handles, a, b, c: handles.context.state_save(handles.file, [5, mostly(5, a)]),
    "load_file": lambda handles, a, b, c: handles.context.state_load(handles.file),
    "save_seq_file": lambda handles, a, b, c: handles.context.state_seq_save(
        handles.file, sequence(a), [abs(b) % 60, mostly(5, c)]
    ),
    "load_seq_file": lambda handles, a, b, c: handles.context.state_seq_load(handles.file, sequence(a)),
    "damage_file": damage_file,
    "adapter": adapter,
    "control_vector": control_vector,
    "look": look,
    "text": text,
    "perf_reset": lambda handles, a, b, c: handles.context.perf_reset(),
    "close_context": lambda handles, a, b, c: handles.context.close(),
}
