"""Images in prompts: the same tokens alone, again, among others and after a restore; and what is refused."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tiny_models
from embedding_calls import body_of, embed, vectors
from tiny_models import write_gemma3, write_lfm2, write_llama, write_qwen2vl

from pyllama import SyncEngine
from pyllama._core import _llama
from pyllama.errors import ContextLengthError, InvalidRequestError, ModelLoadError

pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")
from tiny_projectors import N_ROWS, png, png_of, write_projector

# A text model, and the projector that it gets.
KINDS = {
    "gemma3": (write_gemma3, "gemma3"),
    "llama": (write_llama, "mlp"),
    "qwen2vl": (write_qwen2vl, "qwen2vl_merger"),
    "lfm2": (write_lfm2, "mlp"),
}

# More tokens than stand in front of an image, its opening text included, and fewer than with the image.
BEFORE = 24

Maker = Callable[..., _llama.Engine]


def write_talking(write: Callable[[Path], None], path: Path) -> None:
    """Write a model that has the characters of templates and of what stands around images."""
    letters = tiny_models._LETTERS + "\n"
    with patch.multiple(tiny_models, N_VOCAB=128, _LETTERS=letters):
        write(path)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """Make an engine of one of the kinds, with more flags; all are closed at the end."""
    folder = tmp_path_factory.mktemp("models")
    cores: list[_llama.Engine] = []

    def make(kind: str, *flags: str) -> _llama.Engine:
        write, projector = KINDS[kind]
        model = folder / f"{kind}.gguf"
        eyes = folder / f"{projector}.mmproj"
        if not model.exists():
            write_talking(write, model)
        if not eyes.exists():
            write_projector(eyes, projector)
        argv = ["--model", str(model), "--mmproj", str(eyes), "--threads", "1", "--ctx-size", "512"]
        core = _llama.Engine(_llama.ServerParams([*argv, "--parallel", "2", *flags]))
        cores.append(core)
        return core

    yield make
    for core in cores:
        core.close()


@pytest.fixture(scope="module", params=KINDS)
def core(request: pytest.FixtureRequest, make: Maker) -> _llama.Engine:
    return make(request.param, "--swa-full")


def marker(core: _llama.Engine) -> str:
    text: str = core.props()["media_marker"]
    return text


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def complete(core: _llama.Engine, text: str, *images: bytes, **fields: Any) -> Any:
    """Complete a text, in which ``@`` stands for an image."""
    prompt: Any = {
        "prompt_string": text.replace("@", marker(core)),
        "multimodal_data": [encoded(image) for image in images],
    }
    body = {"prompt": prompt, "n_predict": 12, "temperature": 0, "return_tokens": True, "ignore_eos": True}
    return body_of(core, core.prepare_completion(json.dumps({**body, **fields}).encode(), "native"))


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


def url(image: bytes) -> str:
    return "data:image/png;base64," + encoded(image)


def test_every_dialect_reads_the_same_prompt(make: Maker) -> None:
    core = make("llama")
    image = png(1)
    openai = [{"type": "text", "text": "in"}, {"type": "image_url", "image_url": {"url": url(image)}}]
    short = [{"type": "text", "text": "in"}, {"type": "image_url", "image_url": url(image)}]
    responses = [{"type": "input_text", "text": "in"}, {"type": "input_image", "image_url": url(image)}]
    source = {"type": "base64", "media_type": "image/png", "data": encoded(image)}
    anthropic = [{"type": "text", "text": "in"}, {"type": "image", "source": source}]
    by_url = [{"type": "text", "text": "in"}, {"type": "image", "source": {"type": "url", "url": url(image)}}]

    def count(kind: str, member: str, content: Any) -> int:
        body = json.dumps({member: [{"role": "user", "content": content}]}).encode()
        n: int = json.loads(core.answer_text(kind, body))["input_tokens"]
        return n

    found = {
        count("count_tokens", "messages", openai),
        count("count_tokens", "messages", short),
        count("count_responses_tokens", "input", responses),
        count("count_anthropic_tokens", "messages", anthropic),
        count("count_anthropic_tokens", "messages", by_url),
    }
    assert len(found) == 1
    assert found.pop() - count("count_tokens", "messages", "in") >= N_ROWS["mlp"]
    prepared = core.prepare_chat(json.dumps({"messages": [{"role": "user", "content": openai}]}).encode())
    assert prepared.n_prompt_tokens == count("count_tokens", "messages", openai)


def test_a_tool_may_answer_with_an_image(make: Maker) -> None:
    core = make("llama")
    source = {"type": "base64", "media_type": "image/png", "data": encoded(png(1))}
    result: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": "1",
        "content": [{"type": "text", "text": "a"}, {"type": "image", "source": source}],
    }
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    messages = [
        {"role": "user", "content": "in"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]

    def count(content: list[Any]) -> int:
        result["content"] = content
        body = json.dumps({"messages": messages}).encode()
        n: int = json.loads(core.answer_text("count_anthropic_tokens", body))["input_tokens"]
        return n

    content: Any = result["content"]
    assert count(content) - count(content[:1]) >= N_ROWS["mlp"]


def test_what_is_no_image_names_its_field(make: Maker) -> None:
    core = make("llama")
    bomb = png_of(64, 64, zlib.compress(bytes(1 << 24)))  # 16 MiB of lines where 12 KiB belong
    large = png_of(30000, 30000, b"")
    for image, why in [
        (b"GIF", "no JPEG"),
        (b"\xff\xd8\xff\xe0\0\x04ab", "no JPEG"),
        (png(1)[:60], "cannot be decoded"),
        (large, "30000x30000"),
        (png_of(20000, 10, b""), "no side may be"),
        (png_of(0, 10, b""), "0x10"),
    ]:
        with pytest.raises(InvalidRequestError, match=why) as caught:
            complete(core, "a @", image)
        assert caught.value.param == "prompt.multimodal_data[0]"
    complete(core, "a @", bomb)  # what it has too much is left out


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ({"prompt_string": "@"}, None),
        ({"prompt_string": "@", "multimodal_data": []}, "prompt.prompt_string"),
        ({"prompt_string": "@@", "multimodal_data": ["*"]}, "prompt.prompt_string"),
        ({"prompt_string": "a", "multimodal_data": ["*"]}, "prompt.prompt_string"),
        ({"prompt_string": "@", "multimodal_data": ["!"]}, "prompt.multimodal_data[0]"),
        ({"prompt_string": "@", "multimodal_data": [""]}, "prompt.multimodal_data[0]"),
        ({"prompt_string": "@", "multimodal_data": [1]}, "prompt.multimodal_data[0]"),
        ({"prompt_string": "@", "multimodal_data": "x"}, "prompt.multimodal_data"),
        (
            {"prompt_string": "@", "multimodal_data": ["data:text/html;base64,aGVsbG8="]},
            "prompt.multimodal_data[0]",
        ),
        ({"prompt_string": "@", "multimodal_data": ["data:image/png,abc"]}, "prompt.multimodal_data[0]"),
        ({"prompt_string": "@", "multimodal_data": ["file:///etc/hosts"]}, "prompt.multimodal_data[0]"),
        ({"prompt_string": "@" * 65, "multimodal_data": ["*"] * 65}, "prompt.multimodal_data[64]"),
    ],
)
def test_refusals_name_the_field(make: Maker, prompt: dict[str, Any], param: str | None) -> None:
    core = make("llama")
    prompt = {**prompt, "prompt_string": prompt["prompt_string"].replace("@", marker(core))}
    if isinstance(prompt.get("multimodal_data"), list):
        prompt["multimodal_data"] = [encoded(png(1)) if x == "*" else x for x in prompt["multimodal_data"]]
    body = json.dumps({"prompt": prompt, "n_predict": 1}).encode()
    if param is None:
        core.prepare_completion(body, "native")  # text is text, also where it looks like a marker
        return
    with pytest.raises(InvalidRequestError) as caught:
        core.prepare_completion(body, "native")
    assert caught.value.param == param


def test_images_that_do_not_fit_are_refused(make: Maker) -> None:
    core = make("llama", "--ctx-size", "128", "--parallel", "1")
    with pytest.raises(ContextLengthError):
        complete(core, "@" * 8, *[png(1)] * 8)
    narrow = make("gemma3", "--ubatch-size", "8", "--batch-size", "8")
    with pytest.raises(InvalidRequestError, match="--ubatch-size"):
        complete(narrow, "@", png(1))


def test_files_are_read_below_the_media_path_only(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(png(1))
    (tmp_path.parent / "outside.png").write_bytes(png(1))
    (tmp_path / "link.png").symlink_to(tmp_path / "a" / "x.png")
    (tmp_path / "up").symlink_to(tmp_path.parent)
    core = make("llama", "--media-path", str(tmp_path))

    def ask(source: str) -> None:
        prompt = {"prompt_string": marker(core), "multimodal_data": [source]}
        core.prepare_completion(json.dumps({"prompt": prompt}).encode(), "native")

    ask("file://a/x.png")
    ask("file:////a//x.png")
    for source in (
        "file://",
        "file://a",
        "file://a/",
        "file://a/x.png/",
        "file://a/none.png",
        "file://../outside.png",
        "file://a/../a/x.png",
        "file://./a/x.png",
        "file://link.png",
        "file://up/outside.png",
        "file://a/x.png\0",
    ):
        with pytest.raises(InvalidRequestError, match="names no file"):
            ask(source)


def test_a_projector_that_does_not_fit_is_refused(make: Maker, tmp_path: Path) -> None:
    make("llama")
    missing = tmp_path / "none.gguf"
    with pytest.raises(ModelLoadError, match="cannot be read"):
        make("llama", "--mmproj", str(missing))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelLoadError, match="broken"):
        make("llama", "--mmproj", str(broken))


def test_the_engine_in_process_takes_messages_with_images(tmp_path: Path) -> None:
    write_talking(write_llama, tmp_path / "m.gguf")
    write_projector(tmp_path / "p.gguf", "mlp")
    content = [{"type": "text", "text": "in"}, {"type": "image_url", "image_url": {"url": url(png(1))}}]
    flags: dict[str, Any] = {"mmproj": tmp_path / "p.gguf", "threads": 1, "ctx_size": 512, "parallel": 1}
    with SyncEngine(tmp_path / "m.gguf", **flags) as engine:
        answer = engine.chat([{"role": "user", "content": content}], max_tokens=4, temperature=0).result()
        assert answer.usage.prompt_tokens > N_ROWS["mlp"]


def test_vectors_need_no_image(make: Maker) -> None:
    core = make("llama", "--embeddings", "--pooling", "mean", "--ubatch-size", "256")
    assert vectors(embed(core, input="the")).shape == (1, 32)
