"""Continuous batching by hand: a shared prefix computed once, and sequences that come and go in one batch.

python examples/continuous_batching.py [model.gguf]
"""

import sys

from pyllama import Batch, Context, Model, SamplerChain, samplers
from pyllama.models import demo_model_path

PREFIX = "<|im_start|>user\nWhat is "
ENDINGS = ["17 + 25?", "3 + 4?", "50 + 49?", "12 + 12?", "8 + 9?"]
N_PARALLEL = 2  # sequences 1 and 2; sequence 0 keeps the prefix


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else demo_model_path()
    with Model(path) as model, Context(model, n_ctx=4096, n_seq_max=N_PARALLEL + 1) as context:
        vocab = model.vocab
        prefix = vocab.tokenize(PREFIX)
        batch = Batch(context.n_batch)
        batch.add_sequence(prefix, 0, 0, logits="none")
        context.decode(batch)

        waiting = list(ENDINGS)
        running: dict[int, str] = {}  # sequence -> what it answers
        chains: dict[int, SamplerChain] = {}
        rows: dict[int, int] = {}  # sequence -> its output row in the last batch
        answers: dict[str, bytes] = {}
        while waiting or running:
            batch.clear()
            for seq in list(running):
                token = chains[seq].sample(context, rows[seq])
                if vocab.is_eog(token):
                    context.memory.seq_rm(seq)
                    answer = answers[running[seq]].decode().split("</think>")[-1].strip()
                    print(f"{running.pop(seq):<10} {answer}")
                else:
                    answers[running[seq]] += vocab.token_to_piece(token)
                    rows[seq] = batch.add(token, context.memory.seq_pos_max(seq) + 1, seq, logits=True)
            for seq in range(1, N_PARALLEL + 1):
                if waiting and seq not in running:
                    context.memory.seq_cp(0, seq)  # the prefix's cells, shared and not copied
                    running[seq] = ending = waiting.pop(0)
                    tokens = vocab.tokenize(ending + "<|im_end|>\n<|im_start|>assistant\n", add_special=False)
                    batch.add_sequence(tokens, len(prefix), seq)
                    rows[seq] = len(batch) - 1
                    chains[seq], answers[ending] = SamplerChain([samplers.greedy()]), b""
            if len(batch):
                context.decode(batch)


if __name__ == "__main__":
    main()
