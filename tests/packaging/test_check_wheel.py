"""A wheel that is right passes without a word; each thing that can be wrong with one is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("elftools")
if sys.platform != "linux":
    pytest.skip("needs ELF", allow_module_level=True)

import check_wheel as script
from backends import Backend
from made_wheel import COMPILER, DIST_INFO, MODULE, Made, make_core
from wheel_file import write_wheel

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

LIB = "pyllama/lib"
CORE = Backend(
    name="cpu",
    kind="core",
    distribution="pyllama-engine",
    platforms=("linux-x86_64",),
    options=(),
    libraries=("ggml-rpc",),
    exclude=(),
    max_mb=1.0,
    image="i",
    variants={"linux-x86_64": ["x64", "haswell"]},
)


@pytest.fixture
def core(tmp_path: Path) -> Made:
    return make_core(tmp_path)


@pytest.fixture(autouse=True)
def no_abi_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_check_abi", lambda path: iter(()))


def problems(path: Path, backend: Backend = CORE) -> list[str]:
    return script.check_wheel(path, backend, "linux-x86_64")


def test_a_good_wheel_has_no_problems(core: Made) -> None:
    assert problems(core.write()) == []


def rename(new: str) -> Callable[[Made], None]:
    def change(made: Made) -> None:
        made.name = new

    return change


def drop(name: str) -> Callable[[Made], None]:
    return lambda made: made.files.pop(name) and None


def put(name: str, text: str = "") -> Callable[[Made], None]:
    return lambda made: made.files.update({name: text.encode()})


def library(name: str, **options: object) -> Callable[[Made], None]:
    return lambda made: made.library(name, f"{LIB}/{name}", **options) and None


def export_more(made: Made) -> None:
    code = "int PyInit__llama(void) { return 0; } int llama_decode(void) { return 0; }"
    made.library("_llama.abi3.so", MODULE, code=code, rpath="$ORIGIN/../lib")


def need(name: str) -> Callable[[Made], None]:
    def change(made: Made) -> None:
        other = made.library(name, f"{LIB}/{name}")
        del made.files[f"{LIB}/{name}"]
        made.library("libggml-rpc.so", f"{LIB}/libggml-rpc.so", links=(other,))

    return change


DAMAGE: dict[str, tuple[Callable[[Made], None], str]] = {
    "name": (
        rename("pyllama-0.1.0-cp311-abi3-manylinux_2_28_x86_64.whl"),
        "the distribution is pyllama, not",
    ),
    "tag": (rename("pyllama_engine-0.1.0-cp312-cp312-manylinux_2_28_x86_64.whl"), "the tag is cp312-cp312"),
    "not repaired": (rename("pyllama_engine-0.1.0-cp311-abi3-linux_x86_64.whl"), "is for one machine only"),
    "metadata": (put(f"{DIST_INFO}/METADATA", "Name: other\n"), "METADATA does not name pyllama-engine"),
    "source": (put("pyllama/_core/_llama.pyx"), "_llama.pyx has no place"),
    "header": (put("include/ggml.h"), "include/ggml.h has no place"),
    "training": (put("pyllama/models/training/train.py"), "train.py has no place"),
    "notice": (drop(f"{DIST_INFO}/licenses/NOTICE"), "the licence NOTICE is missing"),
    "licence": (drop("pyllama/licenses/llama.cpp/LICENSE"), "the licence llama.cpp/LICENSE is missing"),
    "libgomp": (put("pyllama_engine.libs/libgomp-1.so.1"), "libgomp is in it, and its licence"),
    "size": (put("pyllama/more.txt"), "are more than the 1e-05 of backends.toml"),
    "backend": (drop(f"{LIB}/libggml-rpc.so"), "the backend libggml-rpc.so is missing"),
    "variant": (drop(f"{LIB}/libggml-cpu-haswell.so"), "the CPU variant haswell is missing"),
    "renamed": (put(f"{LIB}/libggml-vulkan-0123abcd.so"), "was renamed by the repair tool"),
    "module": (drop(MODULE), f"{MODULE} is missing"),
    "exports": (export_more, "exports 2 symbols, not PyInit__llama alone"),
    "kernels": (
        library("libggml-cpu-haswell.so", code="int ggml_backend_init; int quantize_row_q8_0;"),
        "libggml-cpu-haswell.so exports quantize_row_q8_0 and the like",
    ),
    "debug": (library("libggml-rpc.so", strip=False), "libggml-rpc.so is not stripped"),
    "rpath": (library("libggml-rpc.so", rpath="/opt/lib"), "looks into /opt/lib"),
    "folder": (
        library("libggml-rpc.so", code='const char name[] = "/home/me/pyllama/csrc/engine.cpp";'),
        "names a folder of the machine that built it: /home/me/pyllama/csrc/engine.cpp",
    ),
    "foreign library": (need("libstrange.so"), "needs libstrange.so, which is neither"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_is_told(core: Made, name: str) -> None:
    change, expected = DAMAGE[name]
    change(core)
    path = core.write()
    found = problems(path, replace(CORE, max_mb=1e-5) if name == "size" else CORE)
    assert any(expected in problem for problem in found), found


def test_a_relative_path_is_no_folder_of_the_build_machine(core: Made) -> None:
    library("libggml-rpc.so", code='const char name[] = "vendor/llama.cpp/src/ggml/x.cpp";')(core)
    assert problems(core.write()) == []


def test_a_file_that_record_does_not_describe(core: Made) -> None:
    path = core.damage(core.write(), "pyllama/__init__.py", b"changed")
    assert "RECORD does not describe pyllama/__init__.py" in problems(path)


def test_a_library_that_is_excluded_may_be_needed(core: Made) -> None:
    need("libdriver.so.1")(core)
    path = core.write()
    assert [problem for problem in problems(path) if "libdriver" in problem]
    assert problems(path, replace(CORE, exclude=("libdriver.so.1",))) == []


def test_what_is_no_wheel_is_one_problem(tmp_path: Path) -> None:
    other = tmp_path / "pyllama_engine-0.1.0-cp311-abi3-any.whl"
    other.write_text("rubbish")
    assert len(problems(other)) == 1
    assert problems(tmp_path / "README") == ["README is no wheel's name"]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    files = {"b.py": b"1", "a.so": b"2", "x.dist-info/METADATA": b"3"}
    write_wheel(tmp_path / "one.whl", files, "x.dist-info", 1_700_000_000)
    write_wheel(tmp_path / "two.whl", dict(reversed(files.items())), "x.dist-info", 1_700_000_000)
    assert (tmp_path / "one.whl").read_bytes() == (tmp_path / "two.whl").read_bytes()
