"""pyllama.quantize: files, errors, interrupts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, Model, SamplerChain, samplers
from pyllama.models import demo_model_path


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in 16 bits, where every format can start from."""
    path = tmp_path_factory.mktemp("quantize") / "full.gguf"
    return pyllama.quantize(demo_model_path(), path, "F16", allow_requantize=True)


def columns_of(path: Path) -> dict[str, object]:
    gguf = pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")
    return {t.name: np.linspace(0.1, 1.0, int(t.shape[0])) for t in gguf.GGUFReader(path).tensors}


def answer(path: Path, n: int = 24) -> str:
    with Model(path) as model, Context(model, n_ctx=256, n_threads=1) as context:
        prompt = model.vocab.tokenize("What is 12 + 13? Think, then answer.")
        batch = Batch(len(prompt))
        batch.add_sequence(prompt, 0, 0)
        out: list[int] = []
        with SamplerChain([samplers.greedy()]) as chain:
            for _ in range(n):
                context.decode(batch)
                out.append(chain.sample(context))
                batch.clear()
                batch.add(out[-1], len(prompt) + len(out) - 1, 0, logits=True)
        return model.vocab.detokenize(out)


def test_the_result_says_the_same(full: Path, tmp_path: Path) -> None:
    small = pyllama.quantize(full, tmp_path / "small.gguf", "q8_0", n_threads=2)
    assert small == tmp_path / "small.gguf"
    assert small.stat().st_size < 0.7 * full.stat().st_size
    assert answer(small) == answer(full) == answer(demo_model_path())


def test_shapes_that_do_not_fit_fall_back(full: Path, tmp_path: Path) -> None:
    told: list[float] = []
    small = pyllama.quantize(full, tmp_path / "small.gguf", progress=told.append)
    assert small.stat().st_size < full.stat().st_size
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert answer(small)
    assert os.listdir(tmp_path) == ["small.gguf"]


def test_an_importance_matrix_is_used(full: Path, tmp_path: Path) -> None:
    columns = columns_of(full)
    plain = pyllama.quantize(full, tmp_path / "plain.gguf", "Q4_0")
    weighted = pyllama.quantize(full, tmp_path / "weighted.gguf", "Q4_0", imatrix=columns)
    assert plain.read_bytes() != weighted.read_bytes()
    with pytest.raises(pyllama.InvalidRequestError, match="imatrix size 1 is different"):
        pyllama.quantize(full, tmp_path / "b.gguf", "Q4_0", imatrix={"blk.0.attn_q.weight": [1.0]})
    with pytest.raises(pyllama.InvalidRequestError, match="non-finite"):
        pyllama.quantize(
            full, tmp_path / "b.gguf", "Q4_0", imatrix={name: [float("nan")] for name in columns}
        )
    with pytest.raises(pyllama.InvalidRequestError, match="cannot be read as an importance matrix"):
        pyllama.quantize(full, tmp_path / "b.gguf", "Q4_0", imatrix=Path(__file__))
    with pytest.raises(FileNotFoundError):
        pyllama.quantize(full, tmp_path / "b.gguf", "Q4_0", imatrix=tmp_path / "none")
    assert sorted(os.listdir(tmp_path)) == ["plain.gguf", "weighted.gguf"]


def test_the_smallest_formats_need_one(wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    with pytest.raises(pyllama.InvalidRequestError, match="requires an imatrix"):
        pyllama.quantize(wide, target, "IQ2_XS", allow_requantize=True)
    with pytest.raises(pyllama.InvalidRequestError, match="Missing importance matrix for tensor blk"):
        pyllama.quantize(wide, target, "IQ2_XS", allow_requantize=True, imatrix={"other": [1.0]})
    assert not target.exists()
    pyllama.quantize(wide, target, "IQ2_XS", allow_requantize=True, imatrix=columns_of(wide))
    assert target.stat().st_size < wide.stat().st_size / 2
    Model(target).close()


def test_an_importance_matrix_from_a_file(wide: Path, tmp_path: Path) -> None:
    """llama-imatrix writes sums and counts; their quotients are the matrix."""
    gguf = pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")
    file = tmp_path / "imatrix.gguf"
    writer = gguf.GGUFWriter(file, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["none"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in columns_of(wide).items():
        writer.add_tensor(f"{name}.in_sum2", np.asarray(values, dtype=np.float32).reshape(1, -1) * 8)
        writer.add_tensor(f"{name}.counts", np.full((1, 1), 8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    by_file, by_values = tmp_path / "file.gguf", tmp_path / "values.gguf"
    pyllama.quantize(wide, by_file, "IQ2_XS", allow_requantize=True, imatrix=file)
    pyllama.quantize(wide, by_values, "IQ2_XS", allow_requantize=True, imatrix=columns_of(wide))
    assert by_file.read_bytes() == by_values.read_bytes()


def test_bad_values_are_named(full: Path, wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    for options, name in (
        ({"ftype": "Q9"}, "ftype"),
        ({"output_type": "IQ1_S"}, "output_type"),
        ({"embedding_type": "I32"}, "embedding_type"),
        ({"n_threads": 0}, "n_threads"),
        ({"ftype": "IQ2_XXS", "pure": True}, "pure"),
    ):
        with pytest.raises(pyllama.InvalidRequestError) as caught:
            pyllama.quantize(full, target, **options)
        assert caught.value.param == name
    with pytest.raises(TypeError, match="callable"):
        pyllama.quantize(full, target, progress=1)  # type: ignore[arg-type]
    with pytest.raises(pyllama.InvalidRequestError, match="requantizing from type"):
        pyllama.quantize(wide, target, "Q4_0")
    with pytest.raises(pyllama.ModelLoadError, match="not a GGUF"):
        pyllama.quantize(__file__, target)
    with pytest.raises(FileNotFoundError):
        pyllama.quantize(full, tmp_path / "no" / "folder")
    assert os.listdir(tmp_path) == []


def test_the_source_is_never_the_target(full: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(full)
    size = full.stat().st_size
    for target in (full, link):
        with pytest.raises(pyllama.InvalidRequestError, match="is src"):
            pyllama.quantize(full, target, "Q8_0")
    assert full.stat().st_size == size


def test_a_failure_leaves_an_old_file_alone(wide: Path, tmp_path: Path) -> None:
    target = tmp_path / "old.gguf"
    target.write_bytes(b"old")
    with pytest.raises(pyllama.InvalidRequestError):
        pyllama.quantize(wide, target, "IQ1_S")
    assert target.read_bytes() == b"old"


def test_an_exception_in_progress_stops_it(full: Path, tmp_path: Path) -> None:
    def stop(share: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pyllama.quantize(full, tmp_path / "x.gguf", "Q8_0", progress=stop)
    assert os.listdir(tmp_path) == []


def test_an_interrupt_stops_it(full: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pyllama.quantize(
            full, tmp_path / "x.gguf", "Q8_0", progress=lambda share: os.kill(os.getpid(), signal.SIGINT)
        )
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_error(full: Path, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys, pyllama\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({full.stat().st_size // 3},) * 2)\n"
        "try:\n"
        "    pyllama.quantize(sys.argv[1], sys.argv[2], 'F16')\n"
        "except pyllama.PyllamaError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(full), str(tmp_path / "x.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", timeout=60)
    assert "is the disk full?" in done.stdout
    assert os.listdir(tmp_path) == []
