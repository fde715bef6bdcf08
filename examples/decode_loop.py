"""Your own decode loop: prefill the prompt, then sample a token, decode it, and so on.

python examples/decode_loop.py [model.gguf]
"""

import sys
import time

from pyllama import Batch, Context, Model, SamplerChain, samplers
from pyllama.models import demo_model_path

QUESTION = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else demo_model_path()
    with Model(path) as model, Context(model, n_ctx=2048) as context:
        vocab = model.vocab
        prompt = vocab.tokenize(QUESTION)
        chain = SamplerChain([samplers.top_k(40), samplers.temp(0.2), samplers.dist(seed=1)])
        batch = Batch(max(len(prompt), 1))

        batch.add_sequence(prompt, 0, 0)  # position 0 of sequence 0; logits for the last token
        context.decode(batch)
        start, n_decoded = time.perf_counter(), 0
        for position in range(len(prompt), context.n_ctx):
            token = chain.sample(context)  # from the last row, and accepted by the chain
            if vocab.is_eog(token):
                break
            sys.stdout.buffer.write(vocab.token_to_piece(token))  # bytes: a character may be cut in two
            sys.stdout.flush()
            batch.clear()
            batch.add(token, position, 0, logits=True)
            context.decode(batch)
            n_decoded += 1
        seconds = time.perf_counter() - start
        print(f"\n{n_decoded} tokens, {n_decoded / seconds:.0f} tokens/s", file=sys.stderr)


if __name__ == "__main__":
    main()
