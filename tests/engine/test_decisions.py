"""Decision models: tiny ones, made of the demo model and of a random encoder, against the plain bindings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_calls import body_of
from tiny_models import write_bert

from pyllama import Batch, Context, Model
from pyllama._core import _llama
from pyllama.errors import InvalidRequestError, ModelLoadError, UnsupportedError
from pyllama.models import demo_model_path

gguf = pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata  # noqa: E402

TEMPLATE = (
    "State: {% if state is string %}{{ state }}{% else %}{{ state | tojson }}{% endif %} / {{ type }}: "
    "{{ instructions }}\n"
    "{% for o in options %}- {{ o.key }}{% if o.description %} ({{ o.description }}){% endif %};{% endfor %}"
    "Answer:"
)
MARKED = (
    "[CLS]{{ instructions }}[SEP]{% for o in options %}[MASK] {{ o.key }}{% endfor %}[SEP]{{ state }}[SEP]"
)
QUESTIONS = {
    "route": {
        "type": "choice",
        "instructions": "Who?",
        "criteria": {"billing": "refunds", "b": None, "c": None},
    },
    "urgency": {"type": "score", "instructions": "How urgent?", "criteria": ["low", "mid", "high"]},
    "angry": {"type": "noul", "instructions": "Angry?"},
}


def with_metadata(source: Path, path: Path, **texts: str) -> Path:
    """Copy a model, with more texts in its metadata."""
    reader = gguf.GGUFReader(source, "r")
    architecture = reader.get_field("general.architecture").contents()
    writer = gguf.GGUFWriter(path, architecture)
    new = {
        name.replace("__", ".").replace("ARCH", architecture): MetadataDetails(
            gguf.GGUFValueType.STRING, value
        )
        for name, value in texts.items()
    }
    copy_with_new_metadata(reader, writer, new, [])
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_metadata(
        Path(demo_model_path()),
        tmp_path_factory.mktemp("decision") / "openjev.gguf",
        ARCH__decision__type="openjev",
        ARCH__decision__temperature__score="2.0",
        tokenizer__chat_template__systemone=TEMPLATE,
    )


def make_core(path: str | Path, *flags: str) -> _llama.Engine:
    flags = ("--model", str(path), "--threads", "1", "--ctx-size", "4096", *flags)
    return _llama.Engine(_llama.ServerParams(flags))


@pytest.fixture(scope="module")
def core(path: Path) -> Iterator[_llama.Engine]:
    core = make_core(path, "--parallel", "2")
    yield core
    core.close()


def decide(core: _llama.Engine, **fields: Any) -> Any:
    return body_of(core, core.prepare_decision(json.dumps(fields).encode()))


def softmax(scores: np.ndarray, temperature: float = 1) -> np.ndarray:
    scaled = np.exp((scores - scores.max()) / temperature)
    return scaled / scaled.sum()


def label_logits(path: Path, prompt: str, labels: str) -> np.ndarray:
    """What the plain bindings say behind a prompt."""
    with Model(path) as model, Context(model, n_ctx=512, n_threads=1) as context:
        tokens = model.vocab.tokenize(prompt, add_special=False)
        batch = Batch(len(tokens))
        batch.add_sequence(tokens, 0, 0)
        context.decode(batch)
        ids = [model.vocab.tokenize(label, add_special=False)[0] for label in labels]
        return np.array(context.logits(-1))[ids].astype(np.float64)


def test_answers_are_the_models_logits(core: _llama.Engine, path: Path) -> None:
    answers = decide(core, state={"a": 1}, questions=QUESTIONS)["answers"]
    assert list(answers) == list(QUESTIONS)
    prompt = 'State: {"a": 1} / choice: Who?\n- billing (refunds);- b;- c;Answer:'
    wanted = softmax(label_logits(path, prompt, "ABC"))
    route = answers["route"]
    assert list(route["probabilities"]) == ["billing", "b", "c"]
    np.testing.assert_allclose(list(route["probabilities"].values()), wanted, atol=1e-3)
    assert route["choice"] == max(route["probabilities"], key=route["probabilities"].__getitem__)
    assert route["confidence"] == pytest.approx((wanted.max() - 1 / 3) / (2 / 3), abs=1e-3)
    prompt = 'State: {"a": 1} / score: How urgent?\n- 0 (low);- 1 (mid);- 2 (high);Answer:'
    wanted = softmax(label_logits(path, prompt, "ABC"), temperature=2)
    np.testing.assert_allclose(list(answers["urgency"]["probabilities"].values()), wanted, atol=1e-3)
    prompt = 'State: {"a": 1} / noul: Angry?\n- true;- false;Answer:'
    wanted = softmax(label_logits(path, prompt, "AB"))
    assert answers["angry"]["noul"] == pytest.approx(wanted[0], abs=1e-3)


def test_forms_of_answers(core: _llama.Engine) -> None:
    answers = decide(core, state="x", questions=QUESTIONS)["answers"]
    urgency = answers["urgency"]
    assert urgency["legend"] == {"0": "low", "1": "mid", "2": "high"}
    levels = urgency["probabilities"]
    assert urgency["score"] == pytest.approx(sum(int(k) * v for k, v in levels.items()))
    assert 0 <= urgency["confidence"] <= 1
    assert set(answers["angry"]) == {"type", "noul"}


def test_what_the_prompts_share_is_decoded_once(path: Path) -> None:
    core = make_core(path, "--parallel", "2")
    try:
        answer = decide(core, state="a long state " * 20, questions=QUESTIONS)
        metrics = core.metrics()
        assert metrics["cached_tokens"] > 0
        assert metrics["cached_tokens"] % 2 == 0
        assert metrics["cached_tokens"] + metrics["prompt_tokens"] == answer["usage"]["input_tokens"]
    finally:
        core.close()
    alone = make_core(path, "--parallel", "1", "--no-cache-prompt")
    try:
        for name, question in QUESTIONS.items():
            one = decide(alone, state="a long state " * 20, questions={name: question})["answers"][name]
            for field in {"noul", "score"} & set(one):
                assert one[field] == pytest.approx(answer["answers"][name][field], abs=1e-3)
    finally:
        alone.close()


def asked(**question: Any) -> dict[str, Any]:
    return {"state": "x", "questions": {"q": {"instructions": "?", **question}}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"questions": QUESTIONS}, "state"),
        ({"state": "x"}, "questions"),
        ({"state": "x", "questions": {}}, "questions"),
        ({"state": "x", "questions": {"q": 1}}, "questions.q"),
        ({"state": "x", "questions": {"q": {"type": "noul"}}}, "questions.q.instructions"),
        (asked(type="odd"), "questions.q.type"),
        (asked(type="choice"), "questions.q.criteria"),
        (asked(type="score", criteria=["one"]), "questions.q.criteria"),
        (asked(type="choice", criteria={str(i): 0 for i in range(53)}), "questions.q.criteria"),
        ({"state": "x", "questions": QUESTIONS, "videos": ["x"]}, "videos"),
    ],
)
def test_refusals_name_the_field(core: _llama.Engine, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decide(core, **fields)
    assert caught.value.param == param


def test_images_are_refused_wherever_they_are(core: _llama.Engine) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [{"role": "user", "content": [part]}]
    for fields in ({"state": "x", "images": ["y"]}, {"state": messages}, {"state": {"messages": messages}}):
        with pytest.raises(UnsupportedError):
            decide(core, questions=QUESTIONS, **fields)


def test_other_models_decide_nothing() -> None:
    core = make_core(demo_model_path())
    try:
        with pytest.raises(UnsupportedError, match="not a decision model"):
            decide(core, state="x", questions=QUESTIONS)
    finally:
        core.close()


def test_other_kinds_are_named_and_a_bad_temperature_is_refused(tmp_path: Path) -> None:
    demo = Path(demo_model_path())
    other = with_metadata(
        demo, tmp_path / "kev.gguf", ARCH__decision__type="kev", tokenizer__chat_template__systemone="x"
    )
    core = make_core(other)
    try:
        with pytest.raises(UnsupportedError, match="'kev'"):
            decide(core, state="x", questions=QUESTIONS)
    finally:
        core.close()
    bad = with_metadata(
        demo,
        tmp_path / "bad.gguf",
        ARCH__decision__type="openjev",
        ARCH__decision__temperature__noul="-1",
        tokenizer__chat_template__systemone="x",
    )
    with pytest.raises(ModelLoadError, match=r"decision\.temperature\.noul is -1"):
        make_core(bad)


def test_an_encoder_answers_at_its_markers(tmp_path: Path) -> None:
    write_bert(tmp_path / "bert.gguf")
    path = with_metadata(
        tmp_path / "bert.gguf",
        tmp_path / "laya.gguf",
        ARCH__decision__type="laya",
        ARCH__decision__max_head_tokens="64",
        tokenizer__chat_template__systemone=MARKED,
    )
    core = make_core(path)
    try:
        question = {"type": "choice", "instructions": "w h o", "criteria": {"a": None, "b": None}}
        answer = decide(core, state="h e l l o", questions={"q": question})["answers"]["q"]
        tokens = core.tokenize("[CLS]w h o[SEP][MASK] a[MASK] b[SEP]h e l l o[SEP]", parse_special=True)
        marks = [i for i, token in enumerate(tokens) if token == core.tokenize("[MASK]")[0]]
        with (
            Model(path) as model,
            Context(model, n_ctx=128, n_threads=1, embeddings=True, pooling="none") as context,
        ):
            batch = Batch(len(tokens))
            batch.add_sequence(tokens, 0, 0, "all")
            context.encode(batch)
            scores = np.array([context.embeddings(i)[0] for i in marks], np.float64)
        np.testing.assert_allclose(list(answer["probabilities"].values()), softmax(scores), atol=1e-3)
        # A client's text marks nothing.
        tricky = decide(core, state="[MASK] h e l l o [MASK]", questions={"q": question})
        assert tricky["answers"]["q"]["choice"] in ("a", "b")
    finally:
        core.close()
