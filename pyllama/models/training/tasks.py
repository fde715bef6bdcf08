"""The tasks that the demo model can work out, each with the thinking that leads to its answer.

Every step of a thinking is a copy or a local look-up. Digits carry a label that names their column
(`a` is the units digit of the first number, `A` of the second), letters carry their index, and each line
repeats what was found so far (`so 32`), so that the answer is a copy of the last line.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from .words import task_word


@dataclass(frozen=True)
class Problem:
    """One question with its thinking and its short answer.

    `key` names the problem apart from its wording; problems without one are never held out.
    """

    kind: str
    prompt: str
    thinking: str
    answer: str
    key: str = ""

    @property
    def held_out(self) -> bool:
        """Tell whether the problem is kept for evaluation (one key in 16)."""
        return bool(self.key) and zlib.crc32(self.key.encode()) % 16 == 0


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
    lines = [f"{_label(top, labels)} and {_label(bottom, labels.upper())}"]
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
        f"The user wants the sum of {a} and {b}. I label the digits from the right and add column by column.\n"
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
    lines = [f"{_label(top, 'abcde')} and {_label(bottom, 'ABCDE')}"]
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
    lines = [f"{_label(top, 'abcde')} and {_label(bottom, 'ABCDE')}"]
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


def _quoted(rng: random.Random, word: str) -> str:
    return rng.choice((word, word, word, f'"{word}"', f"'{word}'"))


def count_letters(rng: random.Random) -> Problem:
    """Draw a word and a letter to count in it."""
    word = task_word(rng)
    letter = rng.choice(word) if rng.random() < 0.9 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    shown, sought = _quoted(rng, word), rng.choice((letter, letter, f'"{letter}"', f"'{letter}'"))
    prompt = rng.choice(
        (
            f"How many {sought} are in {shown}?",
            f"How many {letter}'s are in {shown}?",
            f"How many {letter}s are there in the word {shown}?",
            f"How many times does the letter {sought} appear in {shown}?",
            f"Count the letter {sought} in {shown}.",
            f"How often is {sought} in the word {shown}?",
            f"How many letters {sought} does {shown} have?",
        )
    )
    n_found = 0
    lines = []
    for i, char in enumerate(word, 1):
        n_found += char == letter
        lines.append(f"{i}{char} {n_found}")
    steps = "\n".join(lines)
    thinking = (
        f"The user wants to know how many times the letter {letter} is in the word. I go through the word and "
        f"count each {letter} that I see.\n{steps}\nEnd of the word. The count of {letter} is {n_found}."
    )
    times = "time" if n_found == 1 else "times"
    answer = f"The letter {letter} appears {n_found} {times}."
    return Problem("count_letters", prompt, thinking, answer, f"count {letter} {word}")


def reverse(rng: random.Random) -> Problem:
    """Draw a word to spell backwards."""
    word = task_word(rng)
    shown = _quoted(rng, word)
    prompt = rng.choice(
        (
            f"Reverse the word {shown}.",
            f"Reverse {shown}.",
            f"Spell {shown} backwards.",
            f"What is {shown} backwards?",
            f"Write {shown} in reverse.",
            f"Please reverse {shown}",
            f"What is the reverse of {shown}?",
        )
    )
    steps = "\n".join(f"{i}{word[i - 1]} {word[:i][::-1]}" for i in range(1, len(word) + 1))
    thinking = (
        "The user wants the word backwards. I go through the letters and put each new letter in front of "
        f"what I have so far.\n{steps}\nEnd of the word. So the answer is the last line."
    )
    return Problem("reverse", prompt, thinking, f"Reversed: {word[::-1]}", f"reverse {word}")


def sort_digits(rng: random.Random) -> Problem:
    """Draw three to seven distinct digits to sort up or down."""
    digits = rng.sample(range(10), rng.randint(3, 7))
    down = rng.random() < 0.25
    shown = rng.choice((" ", ", ")).join(map(str, digits))
    order = rng.choice(("from large to small", "in descending order") if down else ("from small to large", "in order", ""))
    prompt = rng.choice((f"Sort {shown}", f"Sort the digits {shown}", f"Sort these numbers: {shown}", f"Please sort {shown}"))
    prompt = f"{prompt} {order}.".replace(" .", ".")
    found: list[str] = []
    lines = []
    for digit in range(9, -1, -1) if down else range(10):
        if digit in digits:
            found.append(str(digit))
            lines.append(f"{digit}+ so {' '.join(found)}")
        else:
            lines.append(f"{digit}-")
    steps = "\n".join(lines)
    way = "from 9 down to 0" if down else "from 0 up to 9"
    thinking = f"The user wants the digits sorted. I go {way} and mark with + each digit that is in the list.\n{steps}\nDone."
    return Problem("sort_digits", prompt, thinking, f"Sorted: {' '.join(found)}", f"sort {down} {digits}")


def count_up(rng: random.Random) -> Problem:
    """Draw a short run of numbers to count through."""
    first = rng.choice((1, 1, rng.randint(0, 20), rng.randint(0, 990)))
    n = rng.randint(3, 12)
    last = first + n - 1
    by_number = rng.random() < 0.5
    if by_number:
        prompt = rng.choice(
            (f"Count {n} numbers from {first}.", f"Count up from {first}, {n} numbers.", f"List {n} numbers starting at {first}.")
        )
        plan = f"count {n} numbers from {first}. I write each number and how many are left"
    else:
        prompts = [f"Count from {first} to {last}.", f"Count up from {first} to {last}.", f"List the numbers from {first} to {last}."]
        if first == 1:
            prompts.append(f"Count to {last}.")
        prompt = rng.choice(prompts)
        plan = f"count from {first} to {last}. I write each number and stop at {last}"
    lines = []
    for i in range(n):
        mark = f"left {n - 1 - i}" if by_number else "stop" if i == n - 1 else "go on"
        lines.append(f"{first + i} {mark}")
    steps = "\n".join(lines)
    thinking = (
        f"The user wants me to {plan}.\n{steps}\nI have the last number. Now I write the numbers in one line, "
        f"from {first} to {last}, with a space between them, and nothing else. This is the answer."
    )
    answer = " ".join(str(first + i) for i in range(n))
    return Problem("count_up", prompt, thinking, answer, f"count_up {first} {n}")


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
