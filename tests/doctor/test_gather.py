"""Facts from a made-up machine, and from this one."""

from __future__ import annotations

import _ctypes
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from pyllama.doctor.gather import (
    cpu_flags,
    display_devices,
    gather,
    installed_plugins,
    memory,
    model_file,
    package_libraries,
    port_problem,
    probe_core,
)
from pyllama.doctor.probe import mapped_ggml, unloadable
from pyllama.models import demo_model_path


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_installation_is_healthy() -> None:
    facts = gather()
    assert facts.core.error == ""
    assert facts.core.info is not None
    assert "CPU" in facts.core.info["backends"]
    assert facts.libraries
    if sys.platform == "linux":
        assert facts.memory_total >= facts.memory_available > 0
        assert any("libpyllama-ggml-base" in path for path in facts.core.mapped)


def test_a_module_that_kills_its_process_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -ILL $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killer))
    assert probe_core().signal == 4


def test_a_module_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho Traceback >&2\necho 'ImportError: strange' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    core = probe_core()
    assert (core.info, core.error, core.signal) == (None, "ImportError: strange", 0)


def test_libraries_and_plugin_folders(tmp_path: Path) -> None:
    write(tmp_path, **{"libggml-cpu.so": "", "b7__libggml-vulkan.so": "", "empty__x.txt": ""})
    assert package_libraries(tmp_path) == (("libggml-cpu.so",), {"b7": ("libggml-vulkan.so",)})
    assert package_libraries(tmp_path / "none") == ((), {})


def test_who_brings_which_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    brought = [("cu12", "b7/libggml-cuda.so"), ("cu13", "b7/libggml-cuda.so")]
    brought += [
        ("rocm6", "b6/libggml-hip.so"),
        ("rocm7", "b7/libggml-hip.so"),
        ("vulkan", "b7/libggml-vulkan.so"),
    ]
    for name, library in brought:
        info = tmp_path / f"pyllama_engine_{name}-1.dist-info"
        write(info, METADATA=f"Metadata-Version: 2.1\nName: pyllama-engine-{name}\nVersion: 1\n")
        write(info, RECORD=f"pyllama/lib/{library},,\n{info.name}/METADATA,,\n")
    here = [library for _, library in brought if "cuda" not in library]
    write(tmp_path / "pyllama" / "lib", **dict.fromkeys(here, ""))
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_plugins() == (
        {
            "pyllama/lib/b7/libggml-cuda.so": ("pyllama-engine-cu12", "pyllama-engine-cu13"),
            "pyllama/lib/b6/libggml-hip.so": ("pyllama-engine-rocm6",),
            "pyllama/lib/b7/libggml-hip.so": ("pyllama-engine-rocm7",),
            "pyllama/lib/b7/libggml-vulkan.so": ("pyllama-engine-vulkan",),
        },
        {"pyllama/lib/b7/libggml-cuda.so"},
    )


def test_plugins_that_are_not_loaded(tmp_path: Path) -> None:
    # Any library that can be loaded stands for a backend that declined.
    shutil.copy(_ctypes.__file__, tmp_path / "libggml-vulkan.so")
    write(tmp_path, **{"libggml-cuda.so": "no library", "libggml-rpc.so": "", "libggml-cpu-x64.so": ""})
    reasons = unloadable({"libggml-rpc.so"}, [tmp_path])
    assert set(reasons) == {"libggml-cuda.so", "libggml-vulkan.so"}
    assert reasons["libggml-vulkan.so"] == ""
    assert "libggml-cuda.so" in reasons["libggml-cuda.so"]


def test_cpu_flags(tmp_path: Path) -> None:
    write(tmp_path, cpuinfo="processor : 0\nflags\t\t: fpu avx avx2\n\nprocessor : 1\nflags : none\n")
    assert cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx", "avx2"}
    assert cpu_flags(tmp_path / "none") == frozenset()


def test_display_devices(tmp_path: Path) -> None:
    bus = "sys__bus__pci__devices"
    write(
        tmp_path,
        **{
            f"{bus}__0__class": "0x030000\n",
            f"{bus}__0__vendor": "0x10de\n",
            f"{bus}__1__class": "0x020000\n",
            f"{bus}__1__vendor": "0x1002\n",
            f"{bus}__2__class": "0x038000\n",
            f"{bus}__2__vendor": "0x8086\n",
        },
    )
    assert display_devices(tmp_path) == ({"NVIDIA", "Intel"}, frozenset())
    write(tmp_path, proc__driver__nvidia__version="NVRM", dev__dri__renderD128="")
    assert display_devices(tmp_path)[1] == {"NVIDIA", "Intel"}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, (8 << 20, 4 << 20)), ("max", (8 << 20, 4 << 20)), (str(3 << 20), (3 << 20, 2 << 20))],
)
def test_memory_is_the_container_s(tmp_path: Path, limit: str | None, expected: tuple[int, int]) -> None:
    write(tmp_path, proc__meminfo="MemTotal: 8192 kB\nMemAvailable: 4096 kB\n")
    if limit is not None:
        write(
            tmp_path,
            **{"sys__fs__cgroup__memory.max": limit, "sys__fs__cgroup__memory.current": str(1 << 20)},
        )
    assert memory(tmp_path) == expected


def test_mapped_ggml() -> None:
    maps = (
        "7f00-7f01 r-xp 00000000 08:01 1 /site/a b/libggml-base.so\n"
        "7f01-7f02 r--p 00000000 08:01 1 /site/a b/libggml-base.so\n"
        "7f02-7f03 r-xp 00000000 08:01 2 /lib/libc.so.6\n"
        "7f03-7f04 rw-p 00000000 00:00 0\n"
    )
    assert mapped_ggml(maps) == ["/site/a b/libggml-base.so"]


def test_a_good_model_has_no_problem() -> None:
    path = demo_model_path()
    found = model_file(str(path))
    assert (found.problem, found.size) == ("", path.stat().st_size)


def test_a_model_that_was_cut_off_is_told(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    whole = demo_model_path().read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    assert "not within the file bounds" in model_file(str(cut)).problem


def test_a_model_of_rubbish_is_told(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.gguf"
    rubbish.write_bytes(b"GGUF" + b"\xff" * 100)
    assert model_file(str(rubbish)).problem
    assert "no such file" in model_file(str(tmp_path / "none.gguf")).problem


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "in use" in port_problem("127.0.0.1", port)
    assert port_problem("127.0.0.1", 0) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_running_process_is_looked_at() -> None:
    assert gather(pid=os.getpid()).core.mapped == tuple(mapped_ggml(Path("/proc/self/maps").read_text()))
    with pytest.raises(OSError, match="No such file"):
        gather(pid=2**22 + 1)


def test_variables_that_change_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("UNRELATED", "1")
    assert gather().environment.keys() & {"CUDA_VISIBLE_DEVICES", "UNRELATED"} == {"CUDA_VISIBLE_DEVICES"}
