"""Search by meaning: embed texts and a query, and rank the texts by the cosine of the angle between them.

python examples/embeddings_search.py [embedding-model.gguf]

The demo model was not trained for this, so with it the ranking follows the words.
"""

import sys

import numpy as np

import pyllama

TEXTS = [
    "What is 17 + 25?",
    "How many times does the letter r occur in strawberry?",
    "Reverse the word happy.",
    "What is 3 + 4?",
]


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else None
    # An embedding model names its own pooling; "mean" is for the demo model.
    pooling = None if model else "mean"
    with pyllama.SyncEngine(model, n_ctx=2048, embeddings=True, pooling=pooling) as engine:
        vectors = engine.embeddings(TEXTS)  # of length 1, so that the cosine is the product
        scores = vectors @ engine.embeddings(["What is 20 + 22?"])[0]
        for index in np.argsort(-scores):
            print(f"{scores[index]:.3f}  {TEXTS[index]}")


if __name__ == "__main__":
    main()
