"""fetch.py against a small sdist in a local folder, with a pin of its own: no network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

VENDOR = Path(__file__).parents[2] / "vendor" / "llama.cpp"

TREE = {
    "CMakeLists.txt": "project(llama.cpp)\n",
    "LICENSE": "MIT\n",
    "common/arg.cpp": "int arg;\n",
    "ggml/CMakeLists.txt": "project(ggml)\n",
    "include/llama.h": "int llama;\n",
    "tools/mtmd/mtmd.h": "int mtmd;\n",
    "tools/server/README.md": "fetched, but in no build\n",
}

# A backend inside the sdist, so that pip needs no build requirements to read its metadata.
BACKEND = """
import os, pathlib
def prepare_metadata_for_build_wheel(directory, settings=None):
    if "RAN" in os.environ:
        pathlib.Path(os.environ["RAN"]).write_text(" ".join(os.environ))
    if "HANG" in os.environ:
        pathlib.Path(os.environ["HANG"]).touch()
        __import__("time").sleep(60)
    info = pathlib.Path(directory, "tinytree-1.0.dist-info")
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: tinytree\\nVersion: 1.0\\n")
    return info.name
"""


def load_fetch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch", VENDOR / "fetch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fetch"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


fetch = load_fetch()


def write_tree(root: Path, files: dict[str, str] = TREE) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def write_sdist(path: Path, files: dict[str, str] = TREE) -> str:
    content = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: tinytree\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND,
        **{f"thirdparty/llama.cpp/{name}": text for name, text in files.items()},
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, text in content.items():
            entry = tarfile.TarInfo(f"tinytree-1.0/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Place:
    """A copy of vendor/llama.cpp/ with a pin that names a tiny sdist."""

    folder: Path
    index: Path
    sha256: str
    manifest: str

    @property
    def src(self) -> Path:
        return self.folder / "src"

    def pin(self, **changes: str) -> None:
        values = {
            "tag": "b7",
            "manifest": self.manifest,
            "sha256": self.sha256,
            "path": "thirdparty/llama.cpp",
        }
        values |= changes
        url = values.get("url", "file:///nowhere")
        (self.folder / "pin.toml").write_text(
            f'tag = "{values["tag"]}"\nmanifest = "{values["manifest"]}"\n[git]\nurl = "{url}"\n'
            f'[sdist]\nname = "tinytree==1.0"\nsha256 = "{values["sha256"]}"\npath = "{values["path"]}"\n'
        )

    def environment(self, **more: str) -> dict[str, str]:
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PIP_CONFIG_FILE": os.devnull}
        return {**plain, **offline, **more}

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.folder / "fetch.py"), *arguments]
        return subprocess.run(command, env=self.environment(**more), capture_output=True, text=True)

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith("src"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder, index = tmp_path / "vendor", tmp_path / "index"
    folder.mkdir()
    index.mkdir()
    (folder / "fetch.py").write_bytes((VENDOR / "fetch.py").read_bytes())
    sha256 = write_sdist(index / "tinytree-1.0.tar.gz")
    made = Place(folder, index, sha256, fetch.manifest(write_tree(tmp_path / "tree")))
    made.pin()
    return made


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("llama.cpp: ")
    for word in words:
        assert word in lines[0]


def test_fetches_the_whole_tree_and_prints_its_tag(place: Place) -> None:
    done = place.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "b7\n", "")
    found = {p.relative_to(place.src).as_posix(): p.read_text() for p in place.src.rglob("*") if p.is_file()}
    assert found == TREE
    assert place.leftovers() == ["src"]


def test_settings_of_an_outer_build_do_not_reach_pip(place: Place) -> None:
    bad = {"PIP_ONLY_BINARY": ":all:", "PIP_TARGET": "/nowhere", "PIP_CONSTRAINT": "/nowhere/constraints.txt"}
    assert place.run(**bad).stdout == "b7\n"


def test_the_outer_build_s_backend_does_not_reach_pip(place: Place, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    assert place.run(RAN=str(ran), _PYPROJECT_HOOKS_BACKEND_PATH="/nowhere").stdout == "b7\n"
    assert "_PYPROJECT_HOOKS_BACKEND_PATH" not in ran.read_text().split()


def test_a_filled_tree_needs_neither_pip_nor_the_sdist(place: Place) -> None:
    write_tree(place.src)
    (place.index / "tinytree-1.0.tar.gz").unlink()
    assert place.run(PATH="/nowhere").stdout == "b7\n"
    assert sorted(path.name for path in place.folder.iterdir()) == ["fetch.py", "pin.toml", "src"]


def test_an_empty_folder_counts_as_missing(place: Place) -> None:
    place.src.mkdir()
    assert place.run().stdout == "b7\n"


def test_a_wrong_hash_stops_before_the_sdist_runs_any_code(place: Place, tmp_path: Path) -> None:
    place.pin(sha256="0" * 64)
    ran = tmp_path / "ran"
    assert_one_line(place.run(RAN=str(ran)), "another sha256 than pin.toml names")
    assert not ran.exists()
    assert place.leftovers() == []


def test_an_unreachable_index_is_one_line(place: Place) -> None:
    (place.index / "tinytree-1.0.tar.gz").unlink()
    assert_one_line(
        place.run(), "download tinytree==1.0", "No matching distribution", "PYLLAMA_LLAMA_CPP_DIR"
    )
    assert place.leftovers() == []


def test_a_tree_that_is_not_the_pinned_one_is_not_kept(place: Place) -> None:
    place.pin(manifest="0" * 64)
    assert_one_line(place.run(), "not llama.cpp b7")
    assert place.leftovers() == []


def test_an_sdist_without_the_tree_is_one_line(place: Place) -> None:
    place.pin(path="elsewhere")
    assert_one_line(place.run(), "has no elsewhere/")
    assert place.leftovers() == []


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_a_damaged_tree_is_reported_and_left_alone(place: Place, damage: str) -> None:
    write_tree(place.src)
    victim = place.src / "common" / "arg.cpp"
    if damage == "change":
        victim.write_text("int changed;\n")
    elif damage == "remove":
        victim.unlink()
    else:
        (place.src / "common" / "more.cpp").write_text("int more;\n")
    before = sorted(place.src.rglob("*"))
    assert_one_line(place.run(), "Remove it", "PYLLAMA_LLAMA_CPP_DIR")
    assert sorted(place.src.rglob("*")) == before


def test_files_that_no_build_reads_may_differ(place: Place) -> None:
    write_tree(place.src)
    (place.src / "tools/server/README.md").unlink()
    cache = place.src / "common" / "__pycache__"
    cache.mkdir()
    (cache / "tool.cpython-311.pyc").write_bytes(b"\0")
    assert place.run().stdout == "b7\n"


def test_check_only_never_fetches(place: Place) -> None:
    assert_one_line(place.run("--check-only"), "is missing")
    assert place.leftovers() == []


def test_a_tree_of_ones_own_is_custom_unless_it_is_the_pinned_one(place: Place, tmp_path: Path) -> None:
    own = write_tree(tmp_path / "own")
    assert place.run("--tree", str(own)).stdout == "b7\n"
    (own / "include/llama.h").write_text("int newer;\n")
    assert place.run("--tree", str(own)).stdout == "custom\n"
    (own / "include/llama.h").unlink()
    assert_one_line(place.run("--tree", str(own)), "is no llama.cpp tree", "include/llama.h")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(place: Place) -> None:
    place.folder.chmod(0o555)
    try:
        assert_one_line(place.run(), "Permission denied")
    finally:
        place.folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_one_line(place: Place) -> None:
    (place.folder / ".lock").mkdir()  # fails for root too
    assert_one_line(place.run(), "cannot fetch into")
    assert place.leftovers() == []


@pytest.mark.parametrize("pin", ["tag = ", 'tag = "b7"'])
def test_a_broken_pin_is_one_line(place: Place, pin: str) -> None:
    (place.folder / "pin.toml").write_text(pin)
    assert_one_line(place.run(), "pin.toml")


def test_what_a_killed_fetch_left_is_removed_by_the_next(place: Place) -> None:
    write_tree(place.folder / "src.part-1")
    assert place.run().stdout == "b7\n"
    assert place.leftovers() == ["src"]


def test_a_terminated_fetch_leaves_nothing(place: Place, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    command = [sys.executable, str(place.folder / "fetch.py")]
    environment = place.environment(HANG=str(hanging))
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    try:
        while not hanging.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 1
        assert place.leftovers() == []
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_two_at_once_fetch_one_tree(place: Place) -> None:
    command = [sys.executable, str(place.folder / "fetch.py")]
    both = [
        subprocess.Popen(
            command, env=place.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [process.communicate() for process in both] == [("b7\n", ""), ("b7\n", "")]
    assert place.leftovers() == ["src"]


def test_clones_the_tag_where_asked_to(place: Place, tmp_path: Path) -> None:
    upstream = write_tree(tmp_path / "upstream")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "tree"], ["tag", "b7"]):
        subprocess.run(["git", *identity, *command], cwd=upstream, check=True)
    place.pin(url=upstream.as_uri())
    (place.index / "tinytree-1.0.tar.gz").unlink()
    done = place.run("--from-git")
    assert (done.stdout, done.stderr) == ("b7\n", "")
    assert not (place.src / ".git").exists()


def test_a_clone_that_fails_is_one_line(place: Place) -> None:
    assert_one_line(place.run("--from-git"), "clone b7", "nowhere")
    assert place.leftovers() == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"UV_INDEX_URL": "http://a/simple"}, "http://a/simple"),
        ({"UV_DEFAULT_INDEX": "mine=http://b/simple", "UV_INDEX_URL": "http://a/simple"}, "http://b/simple"),
        ({"UV_DEFAULT_INDEX": "http://b/simple", "PIP_INDEX_URL": "http://c/simple"}, "http://c/simple"),
    ],
)
def test_uv_names_the_index_where_pip_has_none(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str | None
) -> None:
    for variable in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    assert fetch.pip_environment().get("PIP_INDEX_URL") == expected


def test_the_pin_is_complete() -> None:
    pin = fetch.read_pin(VENDOR / "pin.toml")
    assert pin.package == "xllamacpp"
    assert len(pin.manifest) == len(pin.sdist_sha256) == 64
