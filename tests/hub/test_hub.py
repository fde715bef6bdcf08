"""Models from a hub: a stand-in on this machine, a cache of its own, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import COMMIT, Hub, entry

from pyllama.hub import HubError, resolve_model
from pyllama.hub.resolve import choose_file, split_files

TOKEN = "hf_" + "a" * 40


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        server.files = {
            "model-Q8_0.gguf": b"GGUF eight" * 1000,
            "model-Q4_K_M.gguf": b"GGUF four" * 1000,
            "mmproj-model.gguf": b"GGUF eyes",
            "README.md": b"read me",
        }
        yield server


@pytest.fixture
def resolve(hub: Hub, tmp_path: Path) -> Any:
    def resolve(**flags: Any) -> Path | None:
        known = {
            "hf_repo": "",
            "hf_file": "",
            "hf_token": "",
            "model_url": "",
            "model_path": "",
            "offline": False,
        }
        return resolve_model(
            {**known, **flags}, endpoint=hub.url, hub_cache=tmp_path / "hub", file_cache=tmp_path / "files"
        )

    return resolve


def test_a_repository_becomes_a_path_in_the_shared_layout(hub: Hub, resolve: Any, tmp_path: Path) -> None:
    path = resolve(hf_repo="user/model")
    folder = tmp_path / "hub" / "models--user--model"
    assert path == folder / "snapshots" / COMMIT / "model-Q4_K_M.gguf"
    assert path.read_bytes() == hub.files["model-Q4_K_M.gguf"]
    assert path.is_symlink()
    assert path.resolve().parent == folder / "blobs"
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert not list((tmp_path / "hub").rglob("*.part"))


def test_what_is_there_is_not_downloaded_again(hub: Hub, resolve: Any) -> None:
    first = resolve(hf_repo="user/model:Q8_0")
    hub.asked.clear()
    assert resolve(hf_repo="user/model:Q8_0") == first
    assert not any("resolve" in path for path, *_ in hub.asked)


def test_offline_and_a_hub_that_is_gone_use_the_cache(hub: Hub, resolve: Any) -> None:
    with pytest.raises(HubError, match="--offline"):
        resolve(hf_repo="user/model", offline=True)
    path = resolve(hf_repo="user/model")
    hub.asked.clear()
    assert resolve(hf_repo="user/model", offline=True) == path
    assert hub.asked == []
    hub.shutdown()
    hub.server_close()
    assert resolve(hf_repo="user/model") == path


def test_a_download_goes_on_where_it_was_cut_off(hub: Hub, resolve: Any) -> None:
    hub.cut_after = 700
    hub.listed = [entry(*item) for item in hub.files.items()]
    with pytest.raises(HubError):
        resolve(hf_repo="user/model", hf_file="model-Q8_0.gguf")
    hub.cut_after = None
    hub.asked.clear()
    path = resolve(hf_repo="user/model", hf_file="model-Q8_0.gguf")
    assert path.read_bytes() == hub.files["model-Q8_0.gguf"]
    assert [span for name, span, _ in hub.asked if "resolve" in name] == ["bytes=700-"]


def test_damaged_content_is_refused_and_forgotten(hub: Hub, resolve: Any, tmp_path: Path) -> None:
    hub.listed = [entry(*item) for item in hub.files.items()]
    right = hub.files["model-Q8_0.gguf"]
    hub.files["model-Q8_0.gguf"] = b"something else"
    with pytest.raises(HubError, match="damaged"):
        resolve(hf_repo="user/model:Q8_0")
    assert not list((tmp_path / "hub").rglob("*.part"))
    hub.files["model-Q8_0.gguf"] = right
    assert resolve(hf_repo="user/model:Q8_0").read_bytes() == right


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: Hub, resolve: Any) -> None:
    other = Hub()
    try:
        other.files = hub.files
        hub.elsewhere = other.url
        resolve(hf_repo="user/model", hf_token=TOKEN)
        assert {authorization for *_, authorization in hub.asked} == {f"Bearer {TOKEN}"}
        assert {authorization for *_, authorization in other.asked} == {""}
    finally:
        other.shutdown()
        other.server_close()


@pytest.mark.parametrize(
    "path", ["../../model.gguf", "/etc/model.gguf", "a/../../../model.gguf", "a\\model.gguf"]
)
def test_a_path_that_leads_out_of_the_cache_is_refused(hub: Hub, resolve: Any, path: str) -> None:
    hub.listed = [entry(path, b"GGUF")]
    with pytest.raises(HubError, match="not a path within a repository"):
        resolve(hf_repo="user/model")


@pytest.mark.parametrize("repo", ["model", "a/b/c", "../x/y", "user/", "user/mo del", "user/..", ""])
def test_a_name_that_is_none_is_refused(resolve: Any, repo: str) -> None:
    if repo:
        with pytest.raises(HubError, match="expected USER/MODEL"):
            resolve(hf_repo=repo)
    else:
        assert resolve(hf_repo=repo) is None


def test_what_is_not_there_is_named_with_what_is(resolve: Any) -> None:
    with pytest.raises(HubError, match=r"has no model :Q2_K; there is .*model-Q4_K_M\.gguf"):
        resolve(hf_repo="user/model:Q2_K")
    with pytest.raises(HubError, match=r"has no other\.gguf"):
        resolve(hf_repo="user/model", hf_file="other.gguf")
    with pytest.raises(HubError, match="404"):
        resolve(hf_repo="user/other")


def test_all_parts_of_a_model_come(hub: Hub, resolve: Any) -> None:
    hub.files = {f"big-Q4_K_M-0000{i}-of-00003.gguf": b"GGUF%d" % i for i in (2, 1, 3)}
    path = resolve(hf_repo="user/model")
    assert path.name == "big-Q4_K_M-00001-of-00003.gguf"
    assert sorted(each.name for each in path.parent.iterdir()) == sorted(hub.files)
    del hub.files["big-Q4_K_M-00002-of-00003.gguf"]
    with pytest.raises(HubError, match="2 of 3 parts"):
        resolve(hf_repo="user/model")


def test_a_url_is_downloaded_once_and_again_when_it_changed(hub: Hub, resolve: Any, tmp_path: Path) -> None:
    url = hub.url + "some/folder/model-Q8_0.gguf"
    path = resolve(model_url=url)
    assert path == tmp_path / "files" / "model-Q8_0.gguf"
    stamp = path.stat().st_mtime_ns
    assert resolve(model_url=url) == path
    assert path.stat().st_mtime_ns == stamp
    hub.files["model-Q8_0.gguf"] = b"GGUF newer"
    assert resolve(model_url=url).read_bytes() == b"GGUF newer"
    assert resolve(model_url=url, model_path=str(tmp_path / "mine.gguf")) == tmp_path / "mine.gguf"
    with pytest.raises(HubError, match="404"):
        resolve(model_url=hub.url + "nothing.gguf")


def test_progress_is_told(hub: Hub, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    flags = {"hf_repo": "user/model", "hf_file": "", "hf_token": "", "model_url": "", "offline": False}
    resolve_model(
        flags,
        endpoint=hub.url,
        hub_cache=tmp_path,
        file_cache=tmp_path,
        progress=lambda *fact: told.append(fact),
    )
    assert told[-1] == ("model-Q4_K_M.gguf", 9000, 9000)


@pytest.mark.parametrize(
    ("paths", "tag", "chosen"),
    [
        (["a-Q8_0.gguf", "a-Q4_K_M.gguf"], "", "a-Q4_K_M.gguf"),
        (["a-F16.gguf", "a-Q8_0.gguf"], "", "a-Q8_0.gguf"),
        (["z-F16.gguf", "a-F32.gguf"], "", "z-F16.gguf"),
        (["a-f16.gguf"], "F16", "a-f16.gguf"),
        (["a-F16.gguf"], "Q4_0", None),
        (["mmproj-a-F16.gguf", "imatrix.gguf", "mtp-a.gguf", "readme.md"], "", None),
        (
            ["x/a-Q8_0-00002-of-00002.gguf", "x/a-Q8_0-00001-of-00002.gguf"],
            "",
            "x/a-Q8_0-00001-of-00002.gguf",
        ),
    ],
)
def test_the_file_that_a_tag_means(paths: list[str], tag: str, chosen: str | None) -> None:
    assert choose_file(paths, tag) == chosen


def test_parts_of_one_model_only() -> None:
    paths = ["a-00001-of-00002.gguf", "b-00002-of-00002.gguf", "a-00002-of-00002.gguf"]
    assert split_files(paths, paths[0]) == ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
