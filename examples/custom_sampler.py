"""A sampler written in Python: it sees the logits as a NumPy array, and may change or choose.

python examples/custom_sampler.py [model.gguf]
"""

import sys

import numpy as np
import numpy.typing as npt

from pyllama import Batch, Context, Model, SamplerChain, samplers
from pyllama.models import demo_model_path

PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"


class NoRepeat:
    """Forbids each token for a while after it was used; the chain tells it what was accepted."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.recent: list[int] = []

    def __call__(self, logits: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]) -> None:
        logits[np.isin(ids, self.recent)] = -np.inf

    def accept(self, token: int) -> None:
        self.recent = [*self.recent, token][-self.window :]


def generate(context: Context, chain: SamplerChain, n: int) -> list[int]:
    context.memory.clear()
    prompt = context.model.vocab.tokenize(PROMPT)
    batch = Batch(len(prompt))
    batch.add_sequence(prompt, 0, 0)
    tokens: list[int] = []
    while len(tokens) < n:
        context.decode(batch)
        tokens.append(chain.sample(context))
        batch.clear()
        batch.add(tokens[-1], len(prompt) + len(tokens) - 1, 0, logits=True)
    return tokens


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else demo_model_path()
    with Model(path) as model, Context(model, n_ctx=1024) as context:
        plain = SamplerChain([samplers.greedy()])
        custom = SamplerChain([samplers.custom(NoRepeat(8)), samplers.greedy()])
        for name, chain in (("greedy", plain), ("no repeat", custom)):
            tokens = generate(context, chain, 24)
            print(f"{name}: {model.vocab.detokenize(tokens)!r}")
        assert all(token not in tokens[max(0, i - 8) : i] for i, token in enumerate(tokens))


if __name__ == "__main__":
    main()
