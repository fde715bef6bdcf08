from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in import Hub

from pyllama.hub import HubError, resolve_model
from pyllama.hub.projector import choose_projector, resolve_projector


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        server.files = {"model-Q8_0.gguf": b"GGUF eight", "mmproj-model-F16.gguf": b"GGUF eyes"}
        yield server


@pytest.fixture
def resolve(hub: Hub, tmp_path: Path) -> Any:
    def resolve(**flags: Any) -> Path | None:
        known = dict.fromkeys(("hf_repo", "hf_file", "hf_token", "model_url", "model_path"), "")
        known |= {"mmproj_path": "", "mmproj_url": ""}
        all_flags = {**known, "offline": False, "mmproj_auto": True, **flags}
        places: dict[str, Any] = {
            "endpoint": hub.url,
            "hub_cache": tmp_path / "hub",
            "file_cache": tmp_path / "files",
        }
        return resolve_projector(all_flags, resolve_model(all_flags, **places), **places)

    return resolve


def test_a_repository_s_projector_comes_with_its_model(hub: Hub, resolve: Any) -> None:
    path = resolve(hf_repo="user/model")
    assert path is not None
    assert path.read_bytes() == hub.files["mmproj-model-F16.gguf"]
    assert resolve(hf_repo="user/model", offline=True) == path


def test_it_is_left_out_where_a_flag_says_so(hub: Hub, resolve: Any) -> None:
    assert resolve(hf_repo="user/model", mmproj_auto=False) is None
    assert resolve(hf_repo="user/model", mmproj_path="another.gguf") is None
    assert not any("mmproj" in path for path, *_ in hub.asked)


def test_a_repository_without_one_is_a_model_that_reads_text(hub: Hub, resolve: Any) -> None:
    del hub.files["mmproj-model-F16.gguf"]
    assert resolve(hf_repo="user/model") is None
    assert resolve(hf_repo="user/model", offline=True) is None


def test_a_projector_has_a_url_of_its_own(hub: Hub, resolve: Any, tmp_path: Path) -> None:
    url = f"{hub.url}user/model/resolve/main/mmproj-model-F16.gguf"
    assert resolve(mmproj_url=url) == tmp_path / "files" / "mmproj-model-F16.gguf"
    with pytest.raises(HubError, match="names no file"):
        resolve(mmproj_url=hub.url)


@pytest.mark.parametrize(
    ("paths", "model", "chosen"),
    [
        (["mmproj-a-F16.gguf", "mmproj-a-Q8_0.gguf"], "a-Q4_K_M.gguf", "mmproj-a-Q8_0.gguf"),
        (["mmproj-a-F16.gguf", "mmproj-a-Q8_0.gguf"], "a-BF16.gguf", "mmproj-a-F16.gguf"),
        (["mmproj.gguf", "x/mmproj.gguf", "y/mmproj.gguf"], "x/a-Q8_0.gguf", "x/mmproj.gguf"),
        (["mmproj.gguf", "y/mmproj.gguf"], "x/a-Q8_0.gguf", "mmproj.gguf"),
        (["y/mmproj.gguf"], "x/a-Q8_0.gguf", None),
        (["a-Q8_0.gguf", "mmproj.txt"], "a-Q8_0.gguf", None),
    ],
)
def test_the_nearest_is_chosen(paths: list[str], model: str, chosen: str | None) -> None:
    assert choose_projector(paths, model) == chosen
