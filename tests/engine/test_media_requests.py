"""Images in requests: each dialect's fields, the same prompt from all of them, and what is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_models import write_llama

from pyllama import SyncEngine
from pyllama.errors import ContextLengthError, InvalidRequestError, MediaUrlError, ModelLoadError
from pyllama.server import media

pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")
from media_engines import Maker, complete, encoded, engine_maker, marker, url, write_talking
from tiny_projectors import N_ROWS, png, png_of, write_projector


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    with engine_maker(tmp_path_factory.mktemp("models")) as make:
        yield make


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


def test_the_field_of_a_url_leads_to_it(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    core = make("llama", "--embeddings", "--pooling", "mean", "--ubatch-size", "256")
    monkeypatch.setattr(media, "fetch", lambda url, private: png(1))
    link = "https://host/image.png"
    source = {"type": "image", "source": {"type": "url", "url": link}}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    answer = {"type": "function_call_output", "call_id": "1"}
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    native = ["in", {"prompt_string": f"the {marker(core)}", "multimodal_data": [link]}]

    def chat(content: Any, member: str = "messages", before: Sequence[Any] = ()) -> dict[str, Any]:
        return {member: [*before, {"role": "user", "content": content}], "max_tokens": 4}

    asked = [{"role": "user", "content": "in"}, {"role": "assistant", "content": [use]}]
    result = {"type": "tool_result", "tool_use_id": "1", "content": [source]}
    output = [
        {"role": "user", "content": "in"},
        call,
        answer | {"output": [{"type": "input_image", "image_url": link}]},
    ]
    for prepare, body in (
        (
            partial(core.prepare_chat, dialect="openai"),
            chat([{"type": "image_url", "image_url": {"url": link}}]),
        ),
        (partial(core.prepare_chat, dialect="openai"), chat([{"type": "image_url", "image_url": link}])),
        (partial(core.prepare_chat, dialect="anthropic"), chat([{"type": "text", "text": "in"}, source])),
        (partial(core.answer_text, "count_anthropic_tokens"), chat([result], before=asked)),
        (
            partial(core.prepare_chat, dialect="responses"),
            chat([{"type": "input_image", "image_url": link}], "input"),
        ),
        (partial(core.answer_text, "count_responses_tokens"), {"input": output}),
        (partial(core.prepare_completion, dialect="native"), {"prompt": native}),
        (partial(core.prepare_completion, dialect="openai"), {"prompt": native[1]}),
        (partial(core.prepare_embeddings, dialect="native"), {"content": native}),
        (partial(core.prepare_embeddings, dialect="openai"), {"input": native}),
        (partial(core.answer_text, "apply_template"), chat([{"type": "image_url", "image_url": link}])),
    ):
        with pytest.raises(MediaUrlError) as caught:
            prepare(json.dumps(body).encode())
        assert caught.value.param is not None
        prepare(media._fill_in(json.dumps(body).encode(), caught.value.param, private=False))


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
