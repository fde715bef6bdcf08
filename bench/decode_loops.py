"""A decode loop in Python, by binding: what a user writes who wants one token after the other.

Run by bench.binding as a script, in the Python that has the binding, and needs nothing else of this
repository. Prints JSON: tokens/s of the prompt (pp), of bare decode steps (tg) and of decode steps with a
sampler chain (sampled), and the microseconds that the samplers took a token where the binding tells.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

Args = argparse.Namespace
Result = dict[str, Any]


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def prompt_of(n: int, n_vocab: int) -> list[int]:
    """Return random tokens, as llama-bench takes them."""
    generator = random.Random(1)
    return [generator.randrange(n_vocab) for _ in range(n)]


def run_pyllama(args: Args) -> Result:
    """Measure this repository's own binding."""
    import pyllama
    from pyllama import Batch, Context, Model, SamplerChain, samplers

    result: Result = {"version": pyllama.build_info()["llama_cpp"]}
    with Model(args.model) as model:
        prompt = prompt_of(args.n_prompt, len(model.vocab))
        batch = Batch(args.n_prompt)
        with Context(model, n_ctx=args.n_prompt, n_threads=args.threads) as context:

            def prefill() -> None:
                context.memory.clear(False)
                batch.clear()
                batch.add_sequence(prompt, 0, 0)
                context.decode(batch)
                context.synchronize()

            prefill()
            result["pp"] = args.n_prompt / seconds(prefill)
        chain = SamplerChain(
            [samplers.top_k(40), samplers.top_p(0.95), samplers.temp(0.8), samplers.dist(seed=1)]
        )
        with Context(model, n_ctx=args.n_gen, n_threads=args.threads) as context, chain:

            def bare(n: int) -> None:
                context.memory.clear(False)
                for pos in range(n):
                    batch.clear()
                    batch.add(prompt[pos % len(prompt)], pos, 0, True)
                    context.decode(batch)
                    context.synchronize()

            def sampled(n: int) -> None:
                context.memory.clear(False)
                token = prompt[0]
                for pos in range(n):
                    batch.clear()
                    batch.add(token, pos, 0, True)
                    context.decode(batch)
                    token = chain.sample(context)

            bare(1)
            result["tg"] = args.n_gen / seconds(lambda: bare(args.n_gen))
            sampled(1)
            before = chain.perf().sample_ms
            result["sampled"] = args.n_gen / seconds(lambda: sampled(args.n_gen))
            result["sample_us"] = (chain.perf().sample_ms - before) * 1000 / args.n_gen
    return result


def run_cyllama(args: Args) -> Result:
    """Measure cyllama's low-level API."""
    from cyllama.llama import llama_cpp as cy

    result: Result = {"version": importlib.metadata.version("cyllama")}
    cy.llama_backend_init()
    cy.disable_logging()
    model = cy.LlamaModel(args.model, cy.LlamaModelParams(), verbose=False)

    def make_context(n_ctx: int) -> Any:
        params = cy.LlamaContextParams()
        params.n_ctx, params.n_batch = n_ctx, 2048
        params.n_threads = params.n_threads_batch = args.threads
        return cy.LlamaContext(model, params, verbose=False)

    prompt = prompt_of(args.n_prompt, model.get_vocab().n_vocab)
    context = make_context(args.n_prompt)

    def prefill() -> None:
        context.kv_cache_clear(False)
        context.decode(cy.llama_batch_get_one(prompt))
        context.synchronize()

    prefill()
    result["pp"] = args.n_prompt / seconds(prefill)
    context = make_context(args.n_gen)

    def bare(n: int) -> None:
        context.kv_cache_clear(False)
        for pos in range(n):
            context.decode(cy.llama_batch_get_one([prompt[pos % len(prompt)]], pos))
            context.synchronize()

    sampler = cy.LlamaSampler(cy.LlamaSamplerChainParams())
    sampler.add_top_k(40)
    sampler.add_top_p(0.95, 1)
    sampler.add_temp(0.8)
    sampler.add_dist(1)

    def sampled(n: int) -> None:
        context.kv_cache_clear(False)
        token = prompt[0]
        for pos in range(n):
            context.decode(cy.llama_batch_get_one([token], pos))
            token = sampler.sample(context, -1)

    bare(1)
    result["tg"] = args.n_gen / seconds(lambda: bare(args.n_gen))
    sampled(1)
    result["sampled"] = args.n_gen / seconds(lambda: sampled(args.n_gen))
    return result


def run_llama_cpp_python(args: Args) -> Result:
    """Measure llama-cpp-python's own loop: eval and sample."""
    import llama_cpp

    result: Result = {"version": llama_cpp.__version__}
    n_ctx = args.n_prompt + args.n_gen
    llama = llama_cpp.Llama(
        args.model,
        n_ctx=n_ctx,
        n_batch=2048,
        n_threads=args.threads,
        n_threads_batch=args.threads,
        verbose=False,
    )
    prompt = prompt_of(args.n_prompt, llama.n_vocab())

    def prefill() -> None:
        llama.reset()
        llama.eval(prompt)

    prefill()
    result["pp"] = args.n_prompt / seconds(prefill)

    def bare(n: int) -> None:
        llama.reset()
        for pos in range(n):
            llama.eval([prompt[pos % len(prompt)]])

    def sampled(n: int) -> None:
        llama.reset()
        token = prompt[0]
        for _ in range(n):
            llama.eval([token])
            token = llama.sample(top_k=40, top_p=0.95, temp=0.8)

    bare(1)
    result["tg"] = args.n_gen / seconds(lambda: bare(args.n_gen))
    sampled(1)
    result["sampled"] = args.n_gen / seconds(lambda: sampled(args.n_gen))
    return result


LOOPS: dict[str, Callable[[Args], Result]] = {
    "pyllama": run_pyllama,
    "cyllama": run_cyllama,
    "llama-cpp-python": run_llama_cpp_python,
}


def main() -> int:
    """Measure one binding once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binding", choices=LOOPS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--n-prompt", type=int, default=512)
    parser.add_argument("--n-gen", type=int, default=128)
    args = parser.parse_args()
    print(json.dumps(LOOPS[args.binding](args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
