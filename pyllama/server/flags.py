"""Which of llama-server's flags act here: the one table.

Every flag goes through llama-common's parser. Those that are *inert* are accepted and do nothing; whoever
sets one is told so in one warning. ``docs/flags.md`` is made of this table, and a test holds it against the
parser's own list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyllama.errors import InvalidRequestError

__all__ = [
    "ACTING",
    "INERT",
    "REMOVED",
    "TOOLS",
    "GivenFlag",
    "check_tools",
    "given_flags",
    "inert_warning",
    "leading_name",
    "without_log_file",
]

# By the name that --help would show first among those that begin with two dashes; of pyllama's own, all act.
ACTING = frozenset(
    """
    --help --version --cache-list --completion-bash --list-devices
    --threads --threads-batch --cpu-mask --cpu-range --cpu-strict --prio
    --cpu-mask-batch --cpu-range-batch --cpu-strict-batch --prio-batch
    --ctx-size --predict --batch-size --ubatch-size --swa-full --flash-attn --escape
    --rope-scaling --rope-scale --rope-freq-base --rope-freq-scale
    --yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast
    --kv-offload --repack --no-host --cache-type-k --cache-type-v --rpc --load-mode --lazy-mode --numa
    --device --override-tensor --cpu-moe --n-cpu-moe --moe-cache-mib --n-cpu-ffn --gpu-layers
    --split-mode --tensor-split --main-gpu --fit --fit-target --fit-ctx
    --check-tensors --override-kv --op-offload --model --verbose --verbosity
    --log-disable --log-file --log-jsonl --log-colors --log-prefix --log-timestamps
    --model-url --hf-repo --hf-file --hf-token --offline --embd-gemma-default
    --fim-qwen-1.5b-default --fim-qwen-3b-default --fim-qwen-7b-default --fim-qwen-30b-default
    --gpt-oss-20b-default --gpt-oss-120b-default --vision-gemma-4b-default --vision-gemma-12b-default
    --samplers --seed --sampler-seq --ignore-eos --temp --top-k --top-p --min-p --top-nsigma
    --xtc-probability --xtc-threshold --typical --repeat-last-n --repeat-penalty --presence-penalty
    --frequency-penalty --dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n
    --dry-sequence-breaker --adaptive-target --adaptive-decay --dynatemp-range --dynatemp-exp
    --mirostat --mirostat-lr --mirostat-ent --logit-bias --grammar --grammar-file
    --json-schema --json-schema-file
    --kv-unified-per-slot --kv-unified --reverse-prompt --special --warmup --spm-infill --pooling
    --parallel --cont-batching --alias --tags --embd-normalize --host --port --reuse-port --path
    --cors-origins --cors-methods --cors-headers --cors-credentials --api-prefix
    --ui-config --ui-config-file --embedding --rerank --api-key --api-key-file
    --ssl-key-file --ssl-cert-file --chat-template-kwargs --timeout --sse-ping-interval --threads-http
    --cache-prompt --metrics --props --slots --jinja --reasoning-format --reasoning --reasoning-effort
    --reasoning-budget --reasoning-budget-message --reasoning-preserve --chat-template
    --chat-template-file --skip-chat-parsing --prefill-assistant --slot-prompt-similarity
    --lora --lora-scaled --lora-init-without-apply
    --control-vector --control-vector-scaled --control-vector-layer-range
    --context-shift --keep --cache-reuse --cache-ram --cache-idle-slots
    --ctx-checkpoints --checkpoint-min-step --slot-save-path --sleep-idle-seconds
    --mmproj --mmproj-url --mmproj-auto --mmproj-offload --mmproj-device
    --image-min-tokens --image-max-tokens --media-path
    """.split()
)

# By reason. A name that switches a flag off stands for that alone: the flag itself acts.
INERT: Mapping[str, tuple[str, ...]] = {
    "speculative decoding is not there yet": tuple(
        """
        --spec-draft-type-k --spec-draft-type-v --spec-draft-hf --spec-draft-threads
        --spec-draft-threads-batch --spec-draft-cpu-mask --spec-draft-cpu-range --spec-draft-cpu-strict
        --spec-draft-prio --spec-draft-poll --spec-draft-cpu-mask-batch --spec-draft-cpu-strict-batch
        --spec-draft-prio-batch --spec-draft-poll-batch --spec-draft-override-tensor --spec-draft-cpu-moe
        --spec-draft-n-cpu-moe --spec-draft-n-max --spec-draft-n-min --spec-synth-len --spec-synth-rates
        --spec-draft-p-split --spec-draft-p-min --spec-draft-backend-sampling --spec-draft-sampling
        --spec-draft-device --spec-draft-ngl --spec-draft-model --spec-type --spec-ngram-mod-n-min
        --spec-ngram-mod-n-max --spec-ngram-mod-n-match --spec-ngram-simple-size-n
        --spec-ngram-simple-size-m --spec-ngram-simple-min-hits --spec-ngram-map-k-size-n
        --spec-ngram-map-k-size-m --spec-ngram-map-k-min-hits --spec-ngram-map-k4v-size-n
        --spec-ngram-map-k4v-size-m --spec-ngram-map-k4v-min-hits --lookup-cache-static
        --lookup-cache-dynamic --spec-default --fim-qwen-7b-spec --fim-qwen-14b-spec
        """.split()
    ),
    "video is not there yet": ("--video-fps", "--video-timestamp-interval", "--video-ffmpeg-dir"),
    "images are encoded one at a time": ("--mtmd-batch-max-tokens",),
    "one server serves one model: the router is not there yet": (
        "--models-dir",
        "--models-preset",
        "--models-max",
        "--models-autoload",
    ),
    "tools and MCP servers are not there yet": (
        "--ui-mcp-proxy",
        "--tools",
        "--tools-runtime",
        "--mcp-servers-config",
        "--mcp-servers-json",
        "--agent",
    ),
    "there is no client for this registry: --hf-repo and --model-url have one": ("--docker-repo",),
    "there is no web UI in the package": ("--ui",),
    "sampling runs on the CPU": ("--backend-sampling",),
    "batching is always continuous": ("--no-cont-batching",),
    "ggml waits in OpenMP's barriers, which know no polling": ("--poll", "--poll-batch"),
    "llama.cpp's own timings are not shown: see `timings` in answers, and --metrics": ("--perf",),
    "llama.cpp has no such threshold any more": ("--defrag-thold",),
    "prompts are not logged": ("--log-prompts-dir",),
}

# llama-common's parser refuses these and names what took their place.
REMOVED = frozenset(
    ("--draft", "--draft-min", "--spec-ngram-size-n", "--spec-ngram-size-m", "--spec-ngram-min-hits")
)

# What asks for nothing: no warning.
_HARMLESS: Mapping[str, frozenset[str]] = {
    "--spec-type": frozenset({"none"}),
}
TOOLS = (
    "read_file",
    "file_glob_search",
    "grep_search",
    "exec_shell_command",
    "write_file",
    "edit_file",
    "get_info",
)


def leading_name(flag: Mapping[str, Any]) -> str:
    """Return the name of a flag of ``known_flags()`` that the table knows it by."""
    name: str = flag["names"][0]
    return name


class GivenFlag(NamedTuple):
    """A flag that the command line or the environment sets."""

    shown: str  # as it was given: a name, or a variable
    flag: Mapping[str, Any]
    value: str
    negated: bool  # switched off


def given_flags(
    flags: Sequence[Mapping[str, Any]], args: Sequence[str], environ: Mapping[str, str]
) -> Iterator[GivenFlag]:
    """Yield the flags that ``environ`` and ``args`` set; ``flags`` is what ``known_flags()`` returns."""
    for flag in flags:
        variable = flag["environment"]
        if variable and variable in environ:
            value = environ[variable]
            off = not flag["values"] and value.lower() in ("0", "false", "off", "disabled")
            yield GivenFlag(variable, flag, value, off)
    by_name = {name: flag for flag in flags for name in (*flag["names"], *flag["negated"])}
    rest = iter(args)
    for arg in rest:
        name = arg.replace("_", "-") if arg.startswith("--") else arg
        if (known := by_name.get(name)) is not None:
            values = [next(rest, "") for _ in known["values"]]
            yield GivenFlag(arg, known, " ".join(values), name in known["negated"])


def without_log_file(flags: Sequence[Mapping[str, Any]], args: Sequence[str]) -> list[str]:
    """Return the arguments but ``--log-file``: llama-common would open it, too, and write over our lines."""
    by_name = {name: flag for flag in flags for name in (*flag["names"], *flag["negated"])}
    kept: list[str] = []
    rest = iter(args)
    for arg in rest:
        known = by_name.get(arg.replace("_", "-") if arg.startswith("--") else arg)
        values = [value for _ in known["values"] if (value := next(rest, None)) is not None] if known else []
        if known is None or leading_name(known) != "--log-file" or not values:
            kept += [arg, *values]
    return kept


def inert_warning(given: Iterable[GivenFlag]) -> str | None:
    """Return one line that names the flags that do nothing; None when all act."""
    reasons = {name: reason for reason, names in INERT.items() for name in names}
    found: dict[str, list[str]] = {}
    for each in given:
        leading = leading_name(each.flag)
        names = each.flag["negated"] if each.negated else [leading]
        reason = next((reasons[name] for name in names if name in reasons), None)
        if reason is not None and each.value not in _HARMLESS.get(leading, ()):
            shown = found.setdefault(reason, [])
            if each.shown not in shown:
                shown.append(each.shown)
    if not found:
        return None
    parts = [f"{', '.join(names)} ({reason})" for reason, names in found.items()]
    return "accepted, but without effect: " + "; ".join(parts)


def check_tools(given: Iterable[GivenFlag]) -> None:
    """Check the names that ``--tools`` was given.

    Raises:
        InvalidRequestError: One is unknown; the message lists the others.
    """
    for each in given:
        if leading_name(each.flag) != "--tools":
            continue
        for name in each.value.split(","):
            if name not in TOOLS and name != "all":
                known = ", ".join(TOOLS)
                raise InvalidRequestError(f'unknown tool "{name}". available tools: {known}', param="--tools")
