"""A load generator for any server of OpenAI's chat completions: what ``pyllama bench`` runs.

It needs neither the native module nor a model.
"""

from pyllama.loadtest.crowd import Crowd
from pyllama.loadtest.exchange import Exchange, Failure, Limits
from pyllama.loadtest.figures import Figures, Objectives, count_failures, median, percentile, summarize
from pyllama.loadtest.load import Ask, Load, PromptFileError, read_prompts
from pyllama.loadtest.report import record, text
from pyllama.loadtest.runner import Run
from pyllama.loadtest.sample import Refusal, Sample, read_exchange, text_times
from pyllama.loadtest.target import Target, TargetError

__all__ = [
    "Ask",
    "Crowd",
    "Exchange",
    "Failure",
    "Figures",
    "Limits",
    "Load",
    "Objectives",
    "PromptFileError",
    "Refusal",
    "Run",
    "Sample",
    "Target",
    "TargetError",
    "count_failures",
    "median",
    "percentile",
    "read_exchange",
    "read_prompts",
    "record",
    "summarize",
    "text",
    "text_times",
]
