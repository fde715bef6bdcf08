"""Samplers in Python, inside a native chain."""

import threading

import numpy as np
import numpy.typing as npt
import pytest

import pyllama
from pyllama import Context, SamplerChain, Vocab, samplers

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]
ROW = np.array([1.0, 5.0, 3.0, 4.0, 2.0], dtype=np.float32)


def test_it_sees_the_whole_row_and_changes_it() -> None:
    seen = []

    def forbid_one(logits: Logits, ids: Ids) -> None:
        seen.append((logits.copy(), ids.copy()))
        assert (logits.dtype, ids.dtype) == (np.float32, np.int32)
        assert not ids.flags.writeable
        logits[1] = -np.inf

    with SamplerChain([samplers.custom(forbid_one), samplers.greedy()]) as chain:
        assert chain.names == ("custom", "greedy")
        assert chain.sample_row(ROW) == 3
        assert ROW[1] == 5.0
    np.testing.assert_array_equal(seen[0][0], ROW)
    np.testing.assert_array_equal(seen[0][1], np.arange(5))


def test_it_works_without_a_copy() -> None:
    def look(logits: Logits, ids: Ids) -> None:
        assert not logits.flags.owndata
        assert logits.base is not None

    SamplerChain([samplers.custom(look), samplers.greedy()]).sample_row(ROW)


def test_it_sees_what_is_left() -> None:
    seen: list[int] = []
    keep = samplers.custom(lambda logits, ids: seen.extend(ids.tolist()))
    with SamplerChain([samplers.temp(1.0), samplers.top_k(3), keep, samplers.greedy()]) as chain:
        assert chain.sample_row(ROW) == 1
    assert sorted(seen) == [1, 2, 3]


def test_between_native_samplers_order_is_found_again() -> None:
    def turn(logits: Logits, ids: Ids) -> None:
        logits *= -1

    with SamplerChain([samplers.top_k(4), samplers.custom(turn), samplers.top_k(2)]) as chain:
        assert chain.apply(ROW).ids.tolist() == [4, 2]


def test_it_can_select() -> None:
    def second_best(logits: Logits, ids: Ids) -> int:
        return int(ids[np.argsort(logits)[-2]])

    with SamplerChain([samplers.top_k(4), samplers.custom(second_best)]) as chain:
        assert chain.sample_row(ROW) == 3
        assert chain.apply(ROW).selected == 3
        assert chain.perf().n_sample == 1


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (4, pyllama.InvalidRequestError, "selected token 4, which is not among"),
        (-1, pyllama.InvalidRequestError, "selected token -1"),
        (1 << 70, pyllama.InvalidRequestError, "token=1180591620717411303424"),
        (None, pyllama.InvalidRequestError, "no sampler of the chain selects"),
        (True, TypeError, "not True"),
        ("a", TypeError, "integer"),
        (1.5, TypeError, "integer"),
    ],
)
def test_bad_results_are_named(result: object, error: type[Exception], message: str) -> None:
    with SamplerChain([samplers.top_k(2), samplers.custom(lambda logits, ids: result)]) as chain:
        for _ in range(2):
            with pytest.raises(error, match=message):
                chain.sample_row(ROW)


def test_only_the_last_selects() -> None:
    with (
        SamplerChain([samplers.custom(lambda logits, ids: 1), samplers.greedy()]) as chain,
        pytest.raises(pyllama.InvalidRequestError, match="the custom sampler at index 0 selected token 1"),
    ):
        chain.sample_row(ROW)


def test_its_exception_comes_out_and_the_chain_stays_usable() -> None:
    problem: BaseException | None = None

    def maybe(logits: Logits, ids: Ids) -> None:
        if problem is not None:
            raise problem

    with SamplerChain([samplers.custom(maybe), samplers.dist(1)]) as chain:
        for problem in (ZeroDivisionError("x"), KeyboardInterrupt(), None):
            if problem is None:
                assert chain.sample_row(ROW) in range(5)
            else:
                with pytest.raises(type(problem)):
                    chain.sample_row(ROW)


def test_numbers_without_order_are_refused() -> None:
    values = [float("nan"), float("inf"), 1.0]

    def spoil(logits: Logits, ids: Ids) -> None:
        logits[2] = values.pop(0)

    with SamplerChain([samplers.custom(spoil), samplers.top_p(0.9), samplers.dist(1)]) as chain:
        for _ in range(2):
            with pytest.raises(pyllama.EngineError, match=r"'custom' made the logit of token 2 NaN or \+inf"):
                chain.sample_row(ROW)
        assert chain.sample_row(ROW) in range(5)
    nothing = samplers.custom(lambda logits, ids: logits.fill(-np.inf))
    with (
        SamplerChain([nothing, samplers.greedy()]) as chain,
        pytest.raises(pyllama.EngineError, match="no token that is allowed is left after 'custom'"),
    ):
        chain.sample_row(ROW)


def test_arrays_may_be_kept() -> None:
    kept: list[Logits] = []
    chain = SamplerChain([samplers.custom(lambda logits, ids: kept.append(logits)), samplers.greedy()])
    chain.sample_row(ROW)
    chain.sample_row(ROW * 2)
    chain.close()
    del chain
    np.testing.assert_array_equal(kept[0], ROW)
    kept[0][:] = 7
    np.testing.assert_array_equal(kept[1], ROW * 2)


def test_it_cannot_enter_its_own_chain(ready: Context) -> None:
    seen: list[str] = []

    def meddle(logits: Logits, ids: Ids) -> None:
        for call in (
            lambda: chain.sample(ready),
            lambda: chain.apply(ROW),
            lambda: chain.accept(1),
            lambda: chain.remove(0),
            lambda: chain.append(samplers.greedy()),
            chain.reset,
            chain.clone,
            chain.close,
        ):
            with pytest.raises(pyllama.EngineError, match="in use") as caught:
                call()
            seen.append(str(caught.value))

    chain = SamplerChain([samplers.custom(meddle), samplers.greedy()])
    chain.sample(ready)
    assert len(seen) == 8


def test_other_threads_run_and_are_refused(ready: Context) -> None:
    """While the function waits, another thread has the GIL, and the chain refuses it."""
    entered, tried = threading.Event(), threading.Event()

    def wait(logits: Logits, ids: Ids) -> None:
        entered.set()
        assert tried.wait(60)

    chain = SamplerChain([samplers.custom(wait), samplers.greedy()])
    outcome: list[object] = []

    def use() -> None:
        entered.wait(60)
        try:
            outcome.append(chain.accept(1))
        except pyllama.EngineError as error:
            outcome.append(error)
        tried.set()

    thread = threading.Thread(target=use)
    thread.start()
    chain.sample(ready)
    thread.join()
    assert isinstance(outcome[0], pyllama.EngineError)


class Counter:
    """Forbids what it has accepted."""

    def __init__(self, accepted: list[int]) -> None:
        self.accepted = accepted

    def __call__(self, logits: Logits, ids: Ids) -> None:
        logits[np.isin(ids, self.accepted)] = -np.inf

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def reset(self) -> None:
        self.accepted.clear()

    def clone(self) -> "Counter":
        return Counter(self.accepted.copy())


def test_objects_follow_the_chain() -> None:
    chain = SamplerChain([samplers.custom(Counter([])), samplers.greedy()])
    assert [chain.sample_row(ROW) for _ in range(2)] == [1, 3]
    copy = chain.clone()
    chain.accept(2)
    assert chain.sample_row(ROW) == 4
    assert copy.sample_row(ROW) == 2
    chain.reset()
    assert chain.sample_row(ROW) == 1


def test_functions_are_shared_by_clones() -> None:
    calls: list[int] = []
    chain = SamplerChain([samplers.custom(lambda logits, ids: calls.append(1)), samplers.greedy()])
    chain.clone().sample_row(ROW)
    chain.sample_row(ROW)
    assert calls == [1, 1]


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="must be callable, not int"):
        SamplerChain([samplers.custom(3)])  # type: ignore[arg-type]


def test_a_grammar_rules_it(vocab: Vocab, ready: Context) -> None:
    letter = int(vocab.tokenize("b")[0])
    grammar = samplers.grammar(vocab, 'root ::= "aaa"')
    with (
        SamplerChain([grammar, samplers.custom(lambda logits, ids: letter)]) as chain,
        pytest.raises(pyllama.InvalidRequestError, match=f"selected token {letter}"),
    ):
        chain.sample(ready)
    with SamplerChain([samplers.custom(lambda logits, ids: None), grammar, samplers.greedy()]) as chain:
        assert vocab.token_to_piece(chain.sample(ready)) == b"a"
