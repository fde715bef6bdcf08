"""Word lists and pseudo-words from which the training tasks are drawn."""

from __future__ import annotations

import random


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS = _split(
    """strawberry banana apple orange lemon cherry coconut pineapple raspberry potato tomato carrot onion
    garlic pepper cinnamon butter cheese bread coffee chocolate cookie pancake spaghetti noodle mushroom
    elephant giraffe tiger rabbit kangaroo penguin dolphin parrot butterfly spider beetle llama alpaca
    python cobra zebra horse donkey monkey puppy kitten turtle lobster salmon eagle raven falcon
    river mountain island forest desert valley meadow ocean volcano glacier canyon waterfall thunder
    lightning rainbow winter summer autumn spring morning evening midnight yesterday tomorrow weekend
    window bottle pillow blanket carpet ladder hammer mirror candle lantern basket bucket umbrella
    guitar violin trumpet piano drum flute pencil paper notebook letterbox library museum castle
    bridge tunnel harbor airport station bicycle balloon rocket planet comet galaxy saturn jupiter
    mississippi tennessee alphabet grammar sentence committee address balance success happiness
    puzzle riddle secret treasure journey adventure shadow silver copper marble velvet cotton
    doctor teacher farmer baker pilot sailor painter wizard dragon knight robot computer keyboard
    kernel buffer thread socket server stream tensor vector matrix compiler debugger binary cache
    cat dog sun moon star tree leaf stone fire wind rain snow king queen door key ship boat"""
)

COMMON = _split("letter word number hello tool user answer model name time weather")
"""Task words that may be whole tokens: their spelling has to be learnt, not copied."""

CITIES = _split(
    """Paris London Berlin Tokyo Rome Madrid Lisbon Vienna Oslo Dublin Prague Athens Cairo Lima Delhi
    Boston Chicago Seattle Denver Austin Toronto Sydney Nairobi Lagos Seoul Beijing Zurich Geneva Munich
    Hamburg Milan Naples Porto Warsaw Budapest Helsinki Stockholm Copenhagen Amsterdam Brussels"""
)

NAMES = _split(
    """Alice Bob Carla David Emma Frank Grace Henry Ines Jack Karen Liam Mia Noah Olga Peter Quinn Rosa
    Sam Tina Umar Vera Will Xenia Yara Zoe"""
)

_VOWELS = "aeiou"
_CONSONANTS = "bcdfghjklmnpqrstvwxyz"


def pseudo_word(rng: random.Random, n_letters: int) -> str:
    """Return a word of `n_letters`: pronounceable half of the time, else any letters."""
    if rng.random() < 0.5:
        return "".join(rng.choice(_CONSONANTS if i % 2 == 0 else _VOWELS) for i in range(n_letters))
    letters = "".join(rng.choice(_VOWELS + _CONSONANTS) for _ in range(n_letters))
    if rng.random() < 0.4:  # doubled letters are what copying stumbles over
        i = rng.randrange(n_letters)
        letters = (letters[:i] + letters[i] + letters[i:])[:n_letters]
    return letters


def task_word(rng: random.Random, n_max: int = 12) -> str:
    """Return a lower-case word of 3 to `n_max` letters to count in or to reverse."""
    draw = rng.random()
    if draw < 0.05:
        return rng.choice(COMMON)
    if draw < 0.40:
        word = rng.choice(WORDS)
        return word if len(word) <= n_max else pseudo_word(rng, rng.randint(3, n_max))
    return pseudo_word(rng, rng.randint(3, min(10, n_max)))


def filler(rng: random.Random, n_words: int) -> str:
    """Return `n_words` unrelated words as one sentence of prose-like noise."""
    return " ".join(rng.choice(WORDS + CITIES + NAMES + COMMON) for _ in range(n_words)).capitalize() + "."
