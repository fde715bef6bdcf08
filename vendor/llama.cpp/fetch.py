"""Put the pinned llama.cpp tree into src/ beside this file, or check one that is there.

Runs at each configure, on the standard library alone, and prints the tree's build tag ("custom" for a tree
of the user's own that is not the pinned one). Any failure is one line on stderr and exit code 1, and leaves
no half-written tree behind.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TREE = HERE / "src"

# The files that a build reads. They alone are in the manifest, and in our own source distribution.
COMPILED = (
    "CMakeLists.txt",
    "LICENSE",
    "cmake",
    "common",
    "ggml",
    "include",
    "licenses",
    "src",
    "tools/mtmd",
    "vendor",
)
LANDMARKS = (
    "CMakeLists.txt",
    "ggml/CMakeLists.txt",
    "include/llama.h",
    "common/arg.cpp",
    "tools/mtmd/mtmd.h",
)

# Settings of an outer pip or build that would change what we download, or where to.
STRIPPED = (
    "PIP_ONLY_BINARY",
    "PIP_NO_BINARY",
    "PIP_TARGET",
    "PIP_CONSTRAINT",
    "PIP_BUILD_CONSTRAINT",
    "PIP_NO_DEPS",
)
# How a pip that builds us tells our build backend where it is: its own pip would look there for another's.
STRIPPED_PREFIX = "_PYPROJECT_HOOKS_"

OFFLINE = (
    "; without a network build from pyllama's source distribution, which carries the tree, or give one with "
    "-DPYLLAMA_LLAMA_CPP_DIR=<tree>"
)


class FetchError(Exception):
    """A failure whose message is the one line the user sees."""


@dataclass(frozen=True)
class Pin:
    """What pin.toml says."""

    tag: str
    manifest: str
    git_url: str
    sdist: str
    sdist_sha256: str
    sdist_path: str

    @property
    def package(self) -> str:
        return self.sdist.partition("==")[0]


def read_pin(path: Path) -> Pin:
    """Read a pin. Raises FetchError when it is missing or incomplete."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        sdist = data["sdist"]
        return Pin(
            data["tag"], data["manifest"], data["git"]["url"], sdist["name"], sdist["sha256"], sdist["path"]
        )
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise FetchError(f"cannot read {path}: {error}") from None
    except KeyError as error:
        raise FetchError(f"{path} has no {error}") from None


def manifest(tree: Path) -> str:
    """Return the sha256 over the lines `path NUL sha256 LF` of all files of COMPILED, sorted by path."""
    files: list[str] = []
    for top in COMPILED:
        base = tree / top
        if base.is_dir():
            files += (
                f.relative_to(tree).as_posix() for f in base.rglob("*") if f.is_file() and f.suffix != ".pyc"
            )
        elif base.is_file():
            files.append(top)
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{hashlib.sha256((tree / name).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def looks_like_llama_cpp(tree: Path) -> bool:
    return all((tree / name).is_file() for name in LANDMARKS)


def check_user_tree(tree: Path, pin: Pin) -> str:
    """Return the tag of a tree of the user's own: "custom" unless it is the pinned one."""
    if not looks_like_llama_cpp(tree):
        raise FetchError(f"{tree} is no llama.cpp tree: it lacks one of {', '.join(LANDMARKS)}")
    return pin.tag if manifest(tree) == pin.manifest else "custom"


def check_own_tree(pin: Pin) -> str:
    """Return the pin's tag if src/ is the pinned tree. It is never repaired: somebody may have edited it."""
    if manifest(TREE) != pin.manifest:
        raise FetchError(
            f"{TREE} is not llama.cpp {pin.tag}: its files differ from the pinned manifest. Remove it to "
            "have it fetched again, or build another tree with -DPYLLAMA_LLAMA_CPP_DIR=<tree>"
        )
    return pin.tag


def is_filled(tree: Path) -> bool:
    return tree.is_dir() and any(tree.iterdir())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`. Where there is no flock, the rename at the end decides alone."""
    with path.open("w") as handle:
        try:
            import fcntl
        except ImportError:
            pass
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def pip_environment() -> dict[str, str]:
    """Return the environment for pip: its own settings, or uv's index where pip has none."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in STRIPPED and not key.startswith(STRIPPED_PREFIX)
    }
    if "PIP_INDEX_URL" not in environment:
        for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
            if url := environment.get(variable):
                environment["PIP_INDEX_URL"] = re.sub(r"^[\w.-]+=", "", url)  # uv allows name=url
                break
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return environment


def run(command: list[str], what: str, environment: dict[str, str] | None = None, advice: str = "") -> None:
    """Run a command; turn its failure into one line, the last that it calls an error, and the advice."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise FetchError(f"cannot {what}: {command[0]}: {error.strerror}") from None
    if done.returncode == 0:
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        raise FetchError(f"cannot {what}: what the index serves has another sha256 than pin.toml names")
    errors = [line for line in lines if re.match(r"(?i)(error|fatal)\b", line)] or lines
    reason = re.sub(r"(?i)^(error|fatal):\s*", "", errors[-1]) if errors else f"exit code {done.returncode}"
    raise FetchError(f"cannot {what}: {reason}{advice}")


def fetch_sdist(pin: Pin, target: Path, scratch: Path) -> None:
    """Unpack the pinned sdist's llama.cpp tree into `target`.

    pip runs an sdist's setup code even when it only downloads: --require-hashes makes it check first.
    """
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{pin.sdist} --hash=sha256:{pin.sdist_sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", pin.package]
    command += ["--require-hashes", "-r", str(requirement), "--dest", str(scratch)]
    run(command, f"download {pin.sdist} with pip", pip_environment(), OFFLINE)

    archives = list(scratch.glob("*.tar.gz"))
    if len(archives) != 1 or hashlib.sha256(archives[0].read_bytes()).hexdigest() != pin.sdist_sha256:
        raise FetchError(f"pip did not download the pinned archive of {pin.sdist}")
    unpack(archives[0], pin.sdist_path, target)


def unpack(archive: Path, folder: str, target: Path) -> None:
    """Unpack what lies in `folder` below the archive's single top folder."""
    with tarfile.open(archive) as tar:
        members = []
        for member in tar.getmembers():
            _, _, inner = member.name.partition("/")
            if inner.startswith(f"{folder}/"):
                member.name = inner.removeprefix(f"{folder}/")
                members.append(member)
        if not members:
            raise FetchError(f"{archive.name} has no {folder}/")
        if hasattr(tarfile, "data_filter"):
            tar.extractall(target, members, filter="data")
        else:  # Python 3.11.0 to 3.11.3; the archive's hash is checked already
            tar.extractall(target, members)


def fetch_git(pin: Pin, target: Path) -> None:
    """Clone upstream's tag into `target`. The manifest, checked afterwards, is what makes it trustworthy."""
    quiet = ["-c", "advice.detachedHead=false", "-c", "core.autocrlf=false"]
    command = ["git", *quiet, "clone", "--quiet", "--depth=1", "--branch", pin.tag, pin.git_url, str(target)]
    run(command, f"clone {pin.tag} of {pin.git_url}", {**os.environ, "GIT_TERMINAL_PROMPT": "0"})
    shutil.rmtree(target / ".git")


def fetch(pin: Pin, from_git: bool) -> str:
    """Fetch the pinned tree into src/, all of it or nothing, and return its tag."""
    with locked(HERE / ".lock"):
        if is_filled(TREE):  # another process was faster
            return check_own_tree(pin)
        for leftover in HERE.glob("src.part-*"):  # of a process that was killed: we hold the lock
            shutil.rmtree(leftover)
        part = HERE / f"src.part-{os.getpid()}"
        try:
            with tempfile.TemporaryDirectory(prefix="pyllama-fetch-") as scratch:
                if sys.stderr.isatty():
                    print(f"fetching llama.cpp {pin.tag} into {TREE}", file=sys.stderr)
                if from_git:
                    fetch_git(pin, part)
                else:
                    fetch_sdist(pin, part, Path(scratch))
            if manifest(part) != pin.manifest:
                raise FetchError(
                    f"the fetched tree is not llama.cpp {pin.tag}: its files differ from the manifest"
                )
            part.rename(TREE)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return pin.tag


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Fetch the pinned llama.cpp tree into src/, or check a tree."
    )
    parser.add_argument(
        "--tree", type=Path, metavar="DIR", help="check this tree of your own instead of src/"
    )
    parser.add_argument("--check-only", action="store_true", help="never fetch; fail when src/ is missing")
    parser.add_argument(
        "--from-git", action="store_true", help="clone upstream's tag instead of asking the index"
    )
    return parser.parse_args()


def main() -> int:
    """Print the tag of the tree to build; return the exit code."""
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the half-written tree is removed
    try:
        pin = read_pin(HERE / "pin.toml")
        if arguments.tree:
            tag = check_user_tree(arguments.tree.resolve(), pin)
        elif is_filled(TREE):
            tag = check_own_tree(pin)
        elif arguments.check_only:
            raise FetchError(f"{TREE} is missing: run {Path(__file__).name} to fetch llama.cpp {pin.tag}")
        else:
            tag = fetch(pin, arguments.from_git)
    except FetchError as error:
        print(f"llama.cpp: {error}", file=sys.stderr)
        return 1
    except (OSError, tarfile.TarError) as error:
        print(f"llama.cpp: cannot fetch into {HERE}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("llama.cpp: interrupted", file=sys.stderr)
        return 1
    print(tag)
    return 0


if __name__ == "__main__":
    sys.exit(main())
