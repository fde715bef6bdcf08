"""Images in prompts: the same tokens alone, again, among others and after a restore; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_calls import body_of, embed, vectors

from pyllama._core import _llama
from pyllama.errors import InvalidRequestError

pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")
from media_engines import KINDS, Maker, complete, encoded, engine_maker, marker
from tiny_projectors import N_ROWS, png

# More tokens than stand in front of an image, its opening text included, and fewer than with the image.
BEFORE = 24


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    with engine_maker(tmp_path_factory.mktemp("models")) as make:
        yield make


@pytest.fixture(scope="module", params=KINDS)
def core(request: pytest.FixtureRequest, make: Maker) -> _llama.Engine:
    return make(request.param, "--swa-full")


def test_an_image_is_rows_of_the_prompt(core: _llama.Engine) -> None:
    with_image = complete(core, "the @ in", png(1))
    without = complete(core, "the  in")
    assert with_image["tokens_evaluated"] - without["tokens_evaluated"] >= min(N_ROWS.values())
    assert with_image["tokens"] != without["tokens"]


def test_the_same_image_again_is_taken_from_the_cache(core: _llama.Engine) -> None:
    text = "a the @ in the end"
    first = complete(core, text, png(2), cache_prompt=False, id_slot=0)
    for _ in range(2):
        again = complete(core, text, png(2), id_slot=0)
        assert again["tokens"] == first["tokens"]
        assert again["timings"]["cache_n"] > N_ROWS["gemma3"]


def test_another_image_is_not(core: _llama.Engine) -> None:
    text = "then @ in"
    complete(core, text, png(3), id_slot=1)
    other = complete(core, text, png(4), id_slot=1)
    assert other["timings"]["cache_n"] <= BEFORE
    assert other["tokens"] == complete(core, text, png(4), cache_prompt=False, id_slot=0)["tokens"]


def test_images_that_change_places_are_others(core: _llama.Engine) -> None:
    text = "x @ y @ z"
    one = complete(core, text, png(5), png(6), id_slot=0)
    two = complete(core, text, png(6), png(5), id_slot=0)
    assert two["tokens"] == complete(core, text, png(6), png(5), cache_prompt=False, id_slot=1)["tokens"]
    again = complete(core, text, png(5), png(6), id_slot=0)
    assert again["tokens"] == one["tokens"]


def test_images_among_others_are_as_alone(core: _llama.Engine) -> None:
    jobs: list[tuple[str, tuple[bytes, ...]]] = [
        ("the @ in", (png(7),)),
        ("the thin in the end", ()),
        ("the @ in", (png(8),)),
        ("in @ the @", (png(7), png(8))),
        ("a the", ()),
    ]
    alone = [complete(core, text, *images, cache_prompt=False)["tokens"] for text, images in jobs]
    with ThreadPoolExecutor(5) as pool:
        for _ in range(3):
            running = [pool.submit(complete, core, text, *images) for text, images in jobs]
            assert [each.result()["tokens"] for each in running] == alone


def test_a_prompt_may_end_with_an_image(core: _llama.Engine) -> None:
    first = complete(core, "th @", png(9), cache_prompt=False)
    assert complete(core, "th @", png(9))["tokens"] == first["tokens"]


def test_several_choices_share_an_image(core: _llama.Engine) -> None:
    body = {
        "prompt": {"prompt_string": f"the {marker(core)} in", "multimodal_data": [encoded(png(10))]},
        "n_predict": 6,
        "temperature": 0,
        "ignore_eos": True,
        "n": 2,
    }
    answer = body_of(core, core.prepare_completion(json.dumps(body).encode(), "openai"))
    first, second = (choice["text"] for choice in answer["choices"])
    assert first == second


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["--no-kv-unified", "--kv-unified"])
def test_a_saved_slot_has_its_images(make: Maker, tmp_path: Path, kind: str, mode: str) -> None:
    flags = ("--swa-full", mode, "--slot-save-path", str(tmp_path))
    core = make(kind, *flags)
    first = complete(core, "the @ in", png(12), id_slot=0)
    saved = core.slot_action(0, "save", b'{"filename":"s"}')
    other = make(kind, *flags)
    assert other.slot_action(1, "restore", b'{"filename":"s"}')["n_restored"] == saved["n_saved"]
    again = complete(other, "the @ in", png(12), id_slot=1)
    assert again["tokens"] == first["tokens"]
    if kind != "gemma3":  # of a sliding window, only what is within it is saved
        assert again["timings"]["cache_n"] > N_ROWS["gemma3"]
    assert complete(other, "the @ in", png(13), id_slot=1)["timings"]["cache_n"] <= BEFORE


def test_a_saved_image_needs_a_projector(make: Maker, tmp_path: Path) -> None:
    core = make("llama", "--slot-save-path", str(tmp_path))
    complete(core, "the @ in", png(1), id_slot=0)
    core.slot_action(0, "save", b'{"filename":"s"}')
    blind = make("llama", "--slot-save-path", str(tmp_path), "--no-mmproj")
    with pytest.raises(InvalidRequestError, match="without an mmproj"):
        blind.slot_action(0, "restore", b'{"filename":"s"}')


def test_host_memory_keeps_images_apart(make: Maker) -> None:
    core = make("llama", "--parallel", "1", "--cache-ram", "100", "--kv-unified")
    long = "the thin in the end a the thin in the end a the thin"
    first = complete(core, f"{long} @ in", png(1))
    complete(core, "in the")
    assert complete(core, f"{long} @ in", png(2))["timings"]["cache_n"] <= len(long) + 3
    again = complete(core, f"{long} @ in", png(1))
    assert again["tokens"] == first["tokens"]


def test_a_full_context_does_not_shift_images(make: Maker) -> None:
    core = make("llama", "--context-shift", "--ctx-size", "128", "--parallel", "1")
    answer = complete(core, "the @ in", png(1), n_predict=-1)
    assert answer["truncated"]
    assert answer["tokens_evaluated"] + len(answer["tokens"]) == 128


@pytest.mark.parametrize("text", ["then @ on", "then @"])
def test_chunks_with_images_do_not_move(make: Maker, text: str) -> None:
    core = make("llama", "--parallel", "1")
    complete(core, "a then @ in", png(1))
    answer = complete(core, text, png(1), n_cache_reuse=4)
    assert answer["timings"]["cache_n"] < 4
    assert answer["tokens"] == complete(core, text, png(1), cache_prompt=False)["tokens"]


@pytest.mark.parametrize("pooling", ["none", "mean", "last"])
def test_embeddings_of_images(make: Maker, pooling: str) -> None:
    core = make("llama", "--embeddings", "--pooling", pooling, "--ubatch-size", "256")
    data = {"prompt_string": f"the {marker(core)} in", "multimodal_data": [encoded(png(1))]}
    other = {**data, "multimodal_data": [encoded(png(2))]}
    parts = [
        {"type": "text", "text": "the "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + encoded(png(1))}},
        {"type": "text", "text": " in"},
    ]
    answer = embed(core, "native", content=[data, data, other, {"content": parts}, "the  in"])
    same, again, others, by_parts, text = (np.array(each["embedding"]) for each in answer)
    np.testing.assert_array_equal(same, again)
    np.testing.assert_array_equal(same, by_parts)
    assert np.abs(same[-1] - others[-1]).max() > 1e-4
    assert np.abs(same[-1] - text[-1]).max() > 1e-4


def test_the_pooled_mean_is_the_mean_of_all_parts(make: Maker) -> None:
    data = [encoded(png(1))]
    rows: list[Any] = []
    for pooling in ("none", "mean"):
        core = make("llama", "--embeddings", "--pooling", pooling, "--ubatch-size", "256")
        text = f"the {marker(core)} in"
        answer = embed(
            core, "native", content={"prompt_string": text, "multimodal_data": data}, embd_normalize=-1
        )
        rows.append(np.array(answer[0]["embedding"]))
    np.testing.assert_allclose(rows[1][0], rows[0].mean(axis=0), rtol=0, atol=1e-3)


def test_vectors_need_no_image(make: Maker) -> None:
    core = make("llama", "--embeddings", "--pooling", "mean", "--ubatch-size", "256")
    assert vectors(embed(core, input="the")).shape == (1, 32)
