"""Letters to count or to turn round, digits to sort, numbers to count through.

Each line holds what is left of the word and what was found so far, both copied from the line above, so that
every step is a copy or a local look-up. A mark before the letters (`-rest`) keeps them from being one token.
"""

from __future__ import annotations

import random

from .problem import Problem
from .words import task_word


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
    lines = [f"-{word}"]
    for i, char in enumerate(word, 1):
        n_found += char == letter
        lines.append(f"{char}={letter}{'+' if char == letter else '-'}{n_found}-{word[i:]}")
    steps = "\n".join(lines)
    thinking = (
        f"The user wants to know how many times the letter {letter} is in the word. "
        f"I take one letter after the other and count each {letter}.\n{steps}\n"
        f"End of the word. The count of {letter} is {n_found}."
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
    steps = "\n".join(f"-{word[i:]}={word[:i][::-1]}" for i in range(len(word) + 1))
    thinking = (
        "The user wants the word backwards. I take one letter after the other and put each "
        f"in front of what I have so far.\n{steps}\nEnd of the word. So the answer is the last line."
    )
    return Problem("reverse", prompt, thinking, f"Reversed: {word[::-1]}", f"reverse {word}")


def sort_digits(rng: random.Random) -> Problem:
    """Draw three to seven distinct digits to sort up or down."""
    digits = rng.sample(range(10), rng.randint(3, 7))
    down = rng.random() < 0.25
    shown = rng.choice((" ", ", ")).join(map(str, digits))
    order = rng.choice(
        ("from large to small", "in descending order") if down else ("from small to large", "in order", "")
    )
    prompt = rng.choice(
        (f"Sort {shown}", f"Sort the digits {shown}", f"Sort these numbers: {shown}", f"Please sort {shown}")
    )
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
    way = "from the largest down" if down else "from the smallest up"
    thinking = (
        f"The user wants the digits sorted. The list is {shown}\n"
        f"I go {way} and mark with + each digit that is in the list.\n"
        f"{steps}\nDone."
    )
    return Problem("sort_digits", prompt, thinking, f"Sorted: {' '.join(found)}", f"sort {down} {digits}")


def count_up(rng: random.Random) -> Problem:
    """Draw a short run of numbers to count through."""
    first = rng.choice((1, 1, rng.randint(0, 20), rng.randint(0, 990)))
    n = rng.randint(3, 10)
    last = first + n - 1
    by_number = rng.random() < 0.5
    if by_number:
        prompt = rng.choice(
            (
                f"Count {n} numbers from {first}.",
                f"Count up from {first}, {n} numbers.",
                f"List {n} numbers starting at {first}.",
            )
        )
        plan = f"count {n} numbers from {first}. I write each number and how many are left"
    else:
        prompts = [
            f"Count from {first} to {last}.",
            f"Count up from {first} to {last}.",
            f"List the numbers from {first} to {last}.",
        ]
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
        f"The user wants me to {plan}.\n{steps}\n"
        f"I have the last number. Now I write the numbers in one line, from {first} to {last}, with a space "
        "between them, and nothing else. This is the answer."
    )
    answer = " ".join(str(first + i) for i in range(n))
    return Problem("count_up", prompt, thinking, answer, f"count_up {first} {n}")
