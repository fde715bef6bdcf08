"""Sums, differences and comparisons, worked out column by column.

Each digit carries a label that names its column: `a` is the units digit of the first number, `A` that of
the second. So every step of a thinking is a copy or a local look-up, and as each line repeats what was
found so far (`so 32`), the answer is a copy from the last line.
"""

from __future__ import annotations

import random

from .problem import Problem


def _number(rng: random.Random, max_digits: int) -> int:
    n_digits = rng.randint(1, max_digits)
    return rng.randint(0 if n_digits == 1 else 10 ** (n_digits - 1), 10**n_digits - 1)


def _label(number: str, labels: str) -> str:
    """Write `labels` before the digits of `number`; the last digit gets the first label."""
    return " ".join(labels[len(number) - 1 - i] + digit for i, digit in enumerate(number))


def _columns_add(a: int, b: int, labels: str) -> str:
    """Write the column addition of a and b, units first."""
    width = max(len(str(a)), len(str(b))) + 1
    top, bottom = str(a).zfill(width), str(b).zfill(width)
    lines = [f"{top} and {bottom}", f"{_label(top, labels)} and {_label(bottom, labels.upper())}"]
    carry, result = 0, ""
    for i in range(width):
        x, y = top[-1 - i], bottom[-1 - i]
        total = int(x) + int(y) + carry
        result = f"{total % 10}{result}"
        lines.append(f"{labels[i]}{x}+{labels[i].upper()}{y}+{carry}={total:02d} so {result}")
        carry = total // 10
    return "\n".join(lines) + f"\nWithout leading zeros: {a + b}"


def add(rng: random.Random) -> Problem:
    """Draw an addition of two numbers of up to four digits."""
    a, b = _number(rng, 4), _number(rng, 4)
    prompt = rng.choice(
        (
            f"What is {a} + {b}?",
            f"What is {a}+{b}?",
            f"What's {a} plus {b}?",
            f"Add {a} and {b}.",
            f"{a} + {b}",
            f"{a}+{b}=?",
            f"Please calculate {a} + {b}.",
            f"Compute the sum of {a} and {b}.",
            f"How much is {a} plus {b}?",
        )
    )
    thinking = (
        f"The user wants the sum of {a} and {b}. "
        "I label the digits from the right and add column by column.\n"
        f"{_columns_add(a, b, 'abcde')}"
    )
    return Problem("add", prompt, thinking, f"The sum is {a + b}.", f"add {a} {b}")


def sum_three(rng: random.Random) -> Problem:
    """Draw a sum of three numbers of up to two digits."""
    a, b, c = (_number(rng, 2) for _ in range(3))
    prompt = rng.choice(
        (
            f"What is {a} + {b} + {c}?",
            f"Add {a}, {b} and {c}.",
            f"{a}+{b}+{c}=?",
            f"{a} + {b} + {c}",
            f"Compute the sum of {a}, {b} and {c}.",
            f"What's {a} plus {b} plus {c}?",
        )
    )
    thinking = (
        f"The user wants the sum of three numbers: {a}, {b} and {c}. First {a} and {b}.\n"
        f"{_columns_add(a, b, 'abcde')}\nThen {a + b} and {c}.\n{_columns_add(a + b, c, 'pqrst')}"
    )
    return Problem("sum_three", prompt, thinking, f"The sum is {a + b + c}.", f"sum {a} {b} {c}")


def subtract(rng: random.Random) -> Problem:
    """Draw a subtraction with a result of at least 0."""
    b, a = sorted((_number(rng, 4), _number(rng, 4)))
    prompt = rng.choice(
        (
            f"What is {a} - {b}?",
            f"What is {a}-{b}?",
            f"What's {a} minus {b}?",
            f"Subtract {b} from {a}.",
            f"{a} - {b}",
            f"{a}-{b}=?",
            f"Please calculate {a} - {b}.",
            f"How much is {a} minus {b}?",
        )
    )
    width = len(str(a))
    top, bottom = str(a), str(b).zfill(width)
    lines = [f"{top} and {bottom}", f"{_label(top, 'abcde')} and {_label(bottom, 'ABCDE')}"]
    borrow, result = 0, ""
    for i in range(width):
        x, y = top[-1 - i], bottom[-1 - i]
        rest = int(x) - int(y) - borrow
        result = f"{rest % 10}{result}"
        lines.append(
            f"{'abcde'[i]}{x}-{'ABCDE'[i]}{y}-{borrow}={rest % 10} borrow {int(rest < 0)} so {result}"
        )
        borrow = int(rest < 0)
    steps = "\n".join(lines)
    thinking = (
        f"The user wants {a} minus {b}. I label the digits from the right and subtract column by column.\n"
        f"{steps}\nWithout leading zeros: {a - b}\nThis is the answer."
    )
    return Problem("subtract", prompt, thinking, f"The difference is {a - b}.", f"subtract {a} {b}")


def compare(rng: random.Random) -> Problem:
    """Draw a comparison of two numbers, often with equal leading digits."""
    a = _number(rng, 4)
    b = _number(rng, 4)
    if rng.random() < 0.5:
        keep = rng.randint(1, len(str(a)))
        b = int(str(a)[:keep] + "".join(rng.choice("0123456789") for _ in str(a)[keep:]))
    wanted = rng.choice(("larger", "smaller"))
    question = rng.choice(("bigger", "larger", "greater")) if wanted == "larger" else "smaller"
    prompt = rng.choice(
        (
            f"Which is {question}, {a} or {b}?",
            f"Which number is {question}: {a} or {b}?",
            f"What is {question}, {a} or {b}?",
            f"Compare {a} and {b}. Which one is {question}?",
        )
    )
    width = max(len(str(a)), len(str(b)))
    top, bottom = str(a).zfill(width), str(b).zfill(width)
    lines = [f"{top} and {bottom}", f"{_label(top, 'abcde')} and {_label(bottom, 'ABCDE')}"]
    for i in reversed(range(width)):
        x, y = top[-1 - i], bottom[-1 - i]
        verdict = "same" if x == y else "larger" if x > y else "smaller"
        lines.append(f"{'abcde'[i]}{x} {'ABCDE'[i]}{y} {verdict}")
        if x != y:
            break
    if a == b:
        answer = "They are equal."
        lines.append("All digits are the same.")
    else:
        answer = f"{max(a, b) if wanted == 'larger' else min(a, b)} is {wanted}."
        lines.append(f"So {a} is {'larger' if a > b else 'smaller'} than {b}.")
    steps = "\n".join(lines)
    thinking = (
        f"The user wants to know which number is {wanted}, {a} or {b}. I label the digits and compare them "
        f"from the left until two are not the same.\n{steps}\nThe user wants the {wanted} one. {answer}"
    )
    return Problem("compare", prompt, thinking, answer, f"compare {a} {b}")
