import pickle
from pathlib import Path

import pytest

import pyllama
from pyllama import Context, Model, ModelLoadError
from pyllama.models import demo_model_path


def test_describes_itself(model: Model) -> None:
    assert model.meta["general.architecture"] == "qwen3"
    assert model.n_layer == int(model.meta["qwen3.block_count"])
    assert model.n_embd == int(model.meta["qwen3.embedding_length"])
    assert model.n_head == int(model.meta["qwen3.attention.head_count"])
    assert model.n_ctx_train == int(model.meta["qwen3.context_length"])
    assert model.n_params > 100_000
    assert 0 < model.size <= demo_model_path().stat().st_size
    assert "qwen3" in model.desc
    assert "messages" in (model.chat_template() or "")
    assert model.chat_template("no such template") is None


def test_close_is_idempotent_and_final() -> None:
    model = Model(demo_model_path())
    vocab = model.vocab
    model.close()
    model.close()
    assert model.closed
    with pytest.raises(pyllama.ClosedError, match="closed"):
        _ = model.n_embd
    with pytest.raises(pyllama.ClosedError):
        vocab.tokenize("x")
    with pytest.raises(pyllama.ClosedError):
        Context(model)


def test_close_refuses_while_a_context_lives() -> None:
    model = Model(demo_model_path())
    with Context(model, n_ctx=256, n_threads=1) as context:
        with pytest.raises(pyllama.InvalidRequestError, match=r"Context n_ctx=256"):
            model.close()
        assert context.n_ctx == 256
    model.close()


def test_an_exception_in_the_block_is_not_hidden_by_a_forgotten_context() -> None:
    kept: list[Context | Model] = []

    def forget() -> None:
        with Model(demo_model_path()) as model:
            kept.extend([Context(model, n_ctx=256, n_threads=1), model])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        forget()
    for handle in kept:
        assert not handle.closed
        handle.close()


def test_forgotten_handles_warn() -> None:
    model = Model(demo_model_path())
    context = Context(model, n_ctx=256, n_threads=1)
    with pytest.warns(ResourceWarning, match="unclosed <pyllama.Context"):
        del context
    with pytest.warns(ResourceWarning, match="unclosed <pyllama.Model"):
        del model


def test_progress_is_called_and_can_stop_the_load() -> None:
    seen: list[float] = []
    Model(demo_model_path(), progress=seen.append).close()
    assert seen
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    with pytest.raises(ModelLoadError):
        Model(demo_model_path(), progress=lambda part: False)

    def fail(part: float) -> None:
        raise KeyError("from the callback")

    with pytest.raises(KeyError, match="from the callback"):
        Model(demo_model_path(), progress=fail)
    with pytest.raises(TypeError, match="progress"):
        Model(demo_model_path(), progress=3)


@pytest.mark.parametrize("options", [{"use_mmap": False}, {"use_mlock": False, "use_mmap": True}])
def test_load_modes(options: dict[str, bool]) -> None:
    with Model(str(demo_model_path()), **options) as model:
        assert model.n_layer > 0


def test_vocab_only_cannot_run() -> None:
    with Model(demo_model_path(), vocab_only=True) as model:
        assert model.vocab_only
        assert len(model.vocab) > 256
        with pytest.raises(pyllama.InvalidRequestError, match="vocab_only"):
            Context(model)


def test_bad_files_are_one_clear_line(tmp_path: Path) -> None:
    whole = demo_model_path().read_bytes()
    cases = {
        "text.gguf": b"this is no model",
        "empty.gguf": b"",
        "magic.gguf": b"GGUF",
        "version.gguf": b"GGUF\xff\xff\xff\xff" + whole[8:],
    }
    cases |= {f"cut{n}.gguf": whole[:n] for n in (20, 200, 5000, len(whole) // 2, len(whole) - 1)}
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ModelLoadError) as caught:
            Model(path)
        message = str(caught.value)
        assert name in message
        assert "\n" not in message
    with pytest.raises(ModelLoadError, match="No such file"):
        Model(tmp_path / "missing.gguf")
    with pytest.raises(ModelLoadError, match="directory"):
        Model(tmp_path)
    with pytest.raises(ModelLoadError, match="NUL"):
        Model("a\0b")


def test_handles_are_not_pickled(model: Model, context: Context) -> None:
    chain = pyllama.SamplerChain([pyllama.samplers.greedy()])
    for handle in (model, model.vocab, context, context.memory, pyllama.Batch(1), chain):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(handle, protocol)
