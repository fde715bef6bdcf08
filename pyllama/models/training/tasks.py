"""The tasks that the demo model can work out, and their mix."""

from __future__ import annotations

import random
from collections.abc import Callable

from .arithmetic import add, compare, subtract, sum_three
from .problem import Problem
from .sequences import count_letters, count_up, reverse, sort_digits

TASKS: dict[Callable[[random.Random], Problem], int] = {
    add: 20,
    subtract: 15,
    sum_three: 10,
    compare: 10,
    count_letters: 14,
    reverse: 14,
    sort_digits: 7,
    count_up: 10,
}
"""Each task with its weight in the mix."""


def draw_task(rng: random.Random, *, held_out: bool = False) -> Problem:
    """Draw a problem from the training side, or from the evaluation side, of the split."""
    task = rng.choices(list(TASKS), list(TASKS.values()))[0]
    while (problem := task(rng)).held_out != held_out:
        pass
    return problem
