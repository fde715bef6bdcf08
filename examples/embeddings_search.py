"""Search by meaning: embed texts and a query, and rank the texts by the cosine of the angle between them.

python examples/embeddings_search.py [embedding-model.gguf]

The demo model was not trained for this, so with it the ranking follows the words.
"""

import sys

import numpy as np
import numpy.typing as npt

from pyllama import Batch, Context, Model
from pyllama.models import demo_model_path

TEXTS = [
    "What is 17 + 25?",
    "How many times does the letter r occur in strawberry?",
    "Reverse the word happy.",
    "What is 3 + 4?",
]


def embed(context: Context, texts: list[str]) -> npt.NDArray[np.float32]:
    """Return one vector of length 1 per text; all texts in one batch, each a sequence of its own."""
    context.memory.clear()
    batch = Batch(context.n_batch)
    for seq, text in enumerate(texts):
        batch.add_sequence(context.model.vocab.tokenize(text), 0, seq, logits="all")
    context.decode(batch)
    vectors = np.stack([context.embeddings_seq(seq) for seq in range(len(texts))])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else demo_model_path()
    with (
        Model(path) as model,
        Context(model, n_ctx=2048, n_seq_max=len(TEXTS), embeddings=True, pooling="mean") as context,
    ):
        vectors = embed(context, TEXTS)
        query = "What is 20 + 22?"
        scores = vectors @ embed(context, [query])[0]
        for index in np.argsort(-scores):
            print(f"{scores[index]:.3f}  {TEXTS[index]}")


if __name__ == "__main__":
    main()
