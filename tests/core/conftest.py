"""One loaded demo model for all tests of the low-level API, and small helpers as fixtures."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyllama import Batch, Context, Model, Vocab
from pyllama.models import demo_model_path

# The helpers beside the tests are plain modules; the tests are imported by file, not by package.
sys.path.insert(0, str(Path(__file__).parent))

PROMPT = "What is 12 + 13? Think, then answer."


@pytest.fixture(scope="session")
def model() -> Iterator[Model]:
    with Model(demo_model_path()) as loaded:
        yield loaded


@pytest.fixture
def vocab(model: Model) -> Vocab:
    return model.vocab


@pytest.fixture
def prompt(vocab: Vocab) -> list[int]:
    return vocab.tokenize(PROMPT).tolist()


@pytest.fixture
def make_context(model: Model) -> Iterator[Callable[..., Context]]:
    made: list[Context] = []

    def make(**options: object) -> Context:
        made.append(Context(model, **{"n_ctx": 512, "n_threads": 1, "n_seq_max": 4, **options}))
        return made[-1]

    yield make
    for context in made:
        context.close()


@pytest.fixture
def context(make_context: Callable[..., Context]) -> Context:
    return make_context()


@pytest.fixture
def prefill() -> Callable[..., Batch]:
    """Decode tokens into a sequence and return the batch."""

    def decode(
        context: Context, tokens: list[int], pos: int = 0, seq_id: int = 0, logits: str = "last"
    ) -> Batch:
        batch = Batch(max(len(tokens), 1))
        batch.add_sequence(tokens, pos, seq_id, logits)
        context.decode(batch)
        return batch

    return decode


@pytest.fixture
def ready(context: Context, prompt: list[int], prefill: Callable[..., Batch]) -> Context:
    """A context whose last batch was the prompt, with an output at its end."""
    prefill(context, prompt)
    return context


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the path of a tiny model by its architecture, and write it at the first call."""
    tiny_models = pytest.importorskip("tiny_models", reason="gguf writes the models: pip install gguf")
    folder = tmp_path_factory.mktemp("tiny")

    def path_of(name: str) -> Path:
        path = folder / f"{name}.gguf"
        if not path.exists():
            tiny_models.WRITERS[name](path)
        return path

    return path_of


@pytest.fixture
def tiny(tiny_files: Callable[[str], Path]) -> Iterator[Callable[..., Context]]:
    """Return a context of a tiny model by its architecture."""
    models: list[Model] = []
    contexts: list[Context] = []

    def make(name: str, **options: object) -> Context:
        models.append(Model(tiny_files(name), n_gpu_layers=0))
        contexts.append(Context(models[-1], **{"n_ctx": 128, "n_threads": 1, "n_seq_max": 2, **options}))
        return contexts[-1]

    yield make
    for handle in (*contexts, *models):
        handle.close()


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights with rows of 256 and heads of 128 numbers."""
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")
    from bench.models import Shape, write_model

    path = tmp_path_factory.mktemp("wide") / "wide.gguf"
    shape = Shape("wide", layers=1, width=256, feed_forward=256, heads=2, kv_heads=1, head_size=128)
    write_model(shape, path, vocabulary=demo_model_path())
    return path
