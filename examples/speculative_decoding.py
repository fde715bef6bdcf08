"""Speculative decoding by hand: guess the next tokens from what was seen, and check them all in one decode.

python examples/speculative_decoding.py [model.gguf]

The guess is a prompt lookup: what followed the last time that the two newest tokens occurred.
"""

import sys

from pyllama import Batch, Context, Model, SamplerChain, samplers
from pyllama.models import demo_model_path

PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
N_TOKENS, N_DRAFT = 96, 6


def lookup(tokens: list[int]) -> list[int]:
    for i in range(len(tokens) - 3, 0, -1):
        if tokens[i - 1 : i + 1] == tokens[-2:]:
            return tokens[i + 1 : i + 1 + N_DRAFT]
    return []


def generate(context: Context, *, speculate: bool) -> tuple[list[int], int]:
    """Return the greedy answer, and how many decodes it took."""
    context.memory.clear()
    chain = SamplerChain([samplers.greedy()])
    prompt = [int(token) for token in context.model.vocab.tokenize(PROMPT)]
    batch = Batch(context.n_batch)
    batch.add_sequence(prompt, 0, 0)
    context.decode(batch)
    tokens, n_decodes = [*prompt, chain.sample(context)], 1
    while len(tokens) < len(prompt) + N_TOKENS:
        draft = lookup(tokens) if speculate else []
        batch.clear()
        batch.add_sequence([tokens[-1], *draft], len(tokens) - 1, 0, logits="all")
        context.decode(batch)
        n_decodes += 1
        for row in range(len(draft) + 1):  # row i is what the model says after i tokens of the draft
            tokens.append(chain.sample(context, row))
            if row == len(draft) or tokens[-1] != draft[row]:
                break
        context.memory.seq_rm(0, len(tokens) - 1)  # what was guessed wrong
    return tokens[len(prompt) : len(prompt) + N_TOKENS], n_decodes


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else demo_model_path()
    with Model(path) as model, Context(model, n_ctx=1024) as context:
        plain, n_plain = generate(context, speculate=False)
        guessed, n_guessed = generate(context, speculate=True)
        print(model.vocab.detokenize(guessed))
        print(f"{n_plain} decodes without guesses, {n_guessed} with; same tokens: {plain == guessed}")
        assert plain == guessed


if __name__ == "__main__":
    main()
