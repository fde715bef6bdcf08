"""The table of wheels, and the workflow that is made of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from backends import TABLE, TableError, find_backend, load_backends, matrix
from build_wheel import defines

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "wheels.yml"
GGML = ROOT / "vendor" / "llama.cpp" / "src" / "ggml"


def test_every_backend_that_is_promised_is_in_the_table() -> None:
    assert {"cpu", "cuda", "vulkan", "metal", "hip"} <= load_backends().keys()


def test_plugins_do_not_share_a_distribution() -> None:
    names = [backend.distribution for backend in load_backends().values() if backend.is_plugin]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"pyllama-engine-[a-z0-9]+", name) for name in names)


def test_the_core_is_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cores = {backend.distribution for backend in load_backends().values() if not backend.is_plugin}
    assert cores == {project["name"]}


@pytest.mark.skipif(not GGML.is_dir(), reason="needs the fetched tree")
@pytest.mark.parametrize(("platform", "architecture"), [("linux-x86_64", "x86"), ("linux-aarch64", "ARM")])
def test_the_variants_are_ggml_s(platform: str, architecture: str) -> None:
    text = (GGML / "src" / "CMakeLists.txt").read_text().partition("if (GGML_CPU_ALL_VARIANTS)")[2]
    part = text.partition(f'GGML_SYSTEM_ARCH STREQUAL "{architecture}"')[2]
    part = re.split(r"elseif ?\((?:GGML_SYSTEM_ARCH|CMAKE_SYSTEM_NAME)", part)[0]
    theirs = set(re.findall(r"ggml_add_cpu_backend_variant\(([\w.]+)", part))
    assert set(load_backends()["cpu"].variants[platform]) == theirs


@pytest.mark.skipif(not GGML.is_dir(), reason="needs the fetched tree")
def test_the_options_are_ggml_s() -> None:
    known = set(re.findall(r"option\((GGML_\w+)", (GGML / "CMakeLists.txt").read_text()))
    known |= set(re.findall(r"NOT (GPU_TARGETS)", (GGML / "src" / "ggml-hip" / "CMakeLists.txt").read_text()))
    for backend in load_backends().values():
        assert {option.partition("=")[0] for option in backend.options} <= known


def test_hip_names_the_gpus_that_it_is_for() -> None:
    rows = [row for row in load_backends().values() if "GGML_HIP=ON" in row.options]
    assert rows
    for row in rows:
        assert re.search(r"gfx90a;.*gfx1100;.*gfx1201", defines(row, [])["GPU_TARGETS"])


def test_an_option_given_by_hand_replaces_the_row_s() -> None:
    given = defines(find_backend("hip"), ["GPU_TARGETS=gfx1100", "GGML_CUDA_FA=OFF", "GPU_TARGETS=gfx1101"])
    assert (given["GPU_TARGETS"], given["GGML_CUDA_FA"], given["GGML_HIP"]) == ("gfx1101", "OFF", "ON")


def test_the_matrix_has_one_entry_per_wheel() -> None:
    entries = matrix()["include"]
    assert len(entries) == sum(len(backend.platforms) for backend in load_backends().values())
    assert all(entry["image"] or entry["platform"].startswith("macos") for entry in entries)
    done = subprocess.run(
        [sys.executable, str(TABLE.with_name("backends.py")), "matrix"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == matrix()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[x]\nkind = "odd"', "missing"),
        (
            '[x]\nkind="odd"\ndistribution="d"\nplatforms=[]\nlibraries=[]\nexclude=[]\nmax_mb=1.0',
            "not core or plug-in",
        ),
        (
            '[x]\nkind="core"\ndistribution="d"\nplatforms=["vax"]\nlibraries=[]\nexclude=[]\nmax_mb=1.0',
            "no machine for vax",
        ),
        (
            '[x]\nkind="core"\ndistribution="d"\nplatforms=["linux-x86_64"]\nlibraries=[]\nexclude=[]\nmax_mb=1.0',
            "needs an image",
        ),
        ("[x", "cannot read"),
    ],
)
def test_a_table_that_says_nonsense_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(TableError, match=message) as caught:
        load_backends(tmp_path / "t.toml")
    assert "\n" not in str(caught.value)


def test_what_a_plugin_requires_is_printed_for_installers() -> None:
    def ask(name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(TABLE.with_name("backends.py")), "requires", name]
        return subprocess.run(command, capture_output=True, text=True)

    assert tuple(ask("cuda13").stdout.split()) == find_backend("cuda13").requires != ()
    wrong = ask("abacus")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)


def test_an_unknown_backend_names_those_that_there_are() -> None:
    with pytest.raises(TableError, match=r"no backend 'abacus'.*cpu.*vulkan"):
        find_backend("abacus")


def test_build_wheel_of_another_platform_is_one_line() -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(TABLE.with_name("build_wheel.py")),
            "metal" if sys.platform == "linux" else "cpu",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert re.fullmatch(r"build_wheel: \w+ is built on [\w, -]+; this is [\w-]+\n", done.stderr)


def test_the_workflow_fits_its_schema() -> None:
    pytest.importorskip("check_jsonschema")
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        str(WORKFLOW),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_workflow_s_steps_are_scripts_that_are_there() -> None:
    text = WORKFLOW.read_text()
    scripts = set(re.findall(r"packaging/\w+\.(?:py|sh)", text))
    assert len(scripts) >= 5, scripts
    for script in scripts:
        assert (ROOT / script).is_file(), script


def test_the_image_script_reads_the_same_table() -> None:
    script = (ROOT / "packaging" / "prepare_image.sh").read_text()
    program = re.search(r"awk .*?'\n(.*?)'\s", script, re.DOTALL)
    assert program is not None
    for backend in load_backends().values():
        for manager, packages in backend.packages.items():
            command = [
                "awk",
                "-v",
                f"backend=[{backend.name}]",
                "-v",
                f"key=packages.{manager}",
                program[1],
                str(TABLE),
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            assert done.stdout.split() == packages
