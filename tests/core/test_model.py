import pickle
import signal
from collections.abc import Callable
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


def test_ctrl_c_stops_a_load() -> None:
    def interrupt(part: float) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Model(demo_model_path(), progress=interrupt)


def test_kinds_of_models(model: Model, tiny: Callable[..., Context]) -> None:
    assert (model.has_encoder, model.has_decoder) == (False, True)
    assert (model.is_recurrent, model.is_hybrid, model.is_diffusion) == (False, False, False)
    assert model.rope_type == "neox"
    assert model.rope_freq_scale_train == 1.0
    assert model.n_swa == 0
    assert model.n_layer_nextn == 0
    assert model.n_embd_inp == model.n_embd_out == model.n_embd
    assert model.n_head_kv == int(model.meta["qwen3.attention.head_count_kv"])
    assert model.ftype in model.desc
    assert model.decoder_start_token is None
    assert model.cls_labels == []
    assert tiny("llama").model.rope_type == "norm"
    assert tiny("mamba").model.rope_type is None


def test_metadata_can_be_overridden(tiny_files: Callable[[str], Path]) -> None:
    path = tiny_files("llama")
    overrides = {"tokenizer.ggml.add_bos_token": False, "llama.context_length": 64, "general.name": "other"}
    with Model(path, kv_overrides=overrides) as changed, Model(path) as plain:
        assert changed.n_ctx_train == 64
        assert plain.n_ctx_train == 128
        assert plain.vocab.tokenize("a")[0] == plain.vocab.bos
        assert changed.vocab.tokenize("a")[0] != plain.vocab.bos
    with Model(
        path, kv_overrides={"llama.attention.layer_norm_rms_epsilon": 1e-3, "general.x": 2}
    ) as changed:
        assert changed.n_layer == 2


@pytest.mark.parametrize(
    "override",
    [
        {"llama.block_count": 0},
        {"llama.embedding_length": 7},
        {"general.architecture": "mamba"},
        {"tokenizer.ggml.model": "gpt2"},
        {"llama.context_length": 0},
        {"llama.rope.freq_base": float("nan")},
        {"llama.expert_used_count": 1},
        {"general." + "x" * 200: 1},
        {"general.name": "x" * 200},
        {"general.name": "a\0b"},
        {"general.number": 1 << 64},
    ],
)
def test_overrides_that_llama_cpp_would_abort_on(
    tiny_files: Callable[[str], Path], override: dict[str, object]
) -> None:
    with pytest.raises(pyllama.InvalidRequestError) as caught:
        Model(tiny_files("llama"), kv_overrides=override)
    assert next(iter(override))[:20] in str(caught.value)


def test_a_split_model(tmp_path: Path, tiny_files: Callable[[str], Path]) -> None:
    gguf = pytest.importorskip("gguf", reason="gguf writes the models: pip install gguf")
    reader = gguf.GGUFReader(tiny_files("llama"))
    names = [f"other-{i}.gguf" for i in range(2)]
    for i, name in enumerate(names):
        writer = gguf.GGUFWriter(tmp_path / name, "llama")
        for key, field in reader.fields.items() if i == 0 else ():
            if not key.startswith("GGUF.") and key != "general.architecture":
                kinds = field.types
                writer.add_key_value(key, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
        writer.add_uint16("split.no", i)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[i::2]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    paths = [tmp_path / name for name in names]
    with Model(paths) as split, Model(tiny_files("llama")) as whole:
        assert (split.n_params, split.size) == (whole.n_params, whole.size)
        with Context(split, n_ctx=64, n_threads=1) as context:
            assert context.n_ctx == 256
    with pytest.raises(ModelLoadError):
        Model(paths[0])
    with pytest.raises(ModelLoadError):
        Model(paths[::-1])
    with pytest.raises(ModelLoadError, match="split into 1 files, not 2"):
        Model([tiny_files("llama"), tiny_files("mamba")])
    with pytest.raises(pyllama.InvalidRequestError, match="path"):
        Model([])


def test_bad_options_are_named(tiny_files: Callable[[str], Path]) -> None:
    for options, name in (
        ({"tensor_split": [1.0] * 99}, "tensor_split"),
        ({"tensor_split": [float("nan")]}, "tensor_split"),
        ({"tensor_split": [-1.0]}, "tensor_split"),
        ({"devices": ["no such device"]}, "no such device"),
        ({"split_mode": "columns"}, "split_mode"),
        ({"main_gpu": 1 << 40}, "main_gpu"),
        ({"n_gpu_layers": -2}, "n_gpu_layers"),
        ({"use_direct_io": True}, "use_direct_io"),
        ({"lazy": True}, "lazy=True"),
        ({"tensor_overrides": {"output": "no memory"}}, "'CPU'"),
        ({"tensor_overrides": {"": "CPU"}}, "1 to 256 bytes"),
        ({"tensor_overrides": {"x" * 257: "CPU"}}, "1 to 256 bytes"),
        ({"tensor_overrides": {f"{i}": "CPU" for i in range(4097)}}, "4096 are allowed"),
    ):
        with pytest.raises(pyllama.InvalidRequestError, match=name):
            Model(tiny_files("llama"), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"use_mmap": False},
        {"use_mlock": False, "use_mmap": True},
        {"use_mmap": False, "use_direct_io": True},
        {"check_tensors": True, "use_extra_bufts": False, "no_host": True},
        {"devices": [], "split_mode": "none", "main_gpu": -1, "n_gpu_layers": 0},
        {"lazy": "on"},
        {"lazy": "off", "use_mmap": False},
        {"tensor_overrides": {r"blk\.0\..*": "CPU", ".*": "CPU"}, "devices": []},
    ],
)
def test_load_modes(options: dict[str, object]) -> None:
    with Model(str(demo_model_path()), **options) as model:
        assert model.n_layer > 0


def test_a_bad_pattern_of_tensors_is_an_error(tiny_files: Callable[[str], Path]) -> None:
    for pattern in ("(", "a{5,2}", "[" * 200, "(a*)*" * 50 + "("):
        with pytest.raises(ModelLoadError):
            Model(tiny_files("llama"), tensor_overrides={pattern: "CPU"})


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
