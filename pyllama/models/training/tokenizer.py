"""The tokenizer of the demo model, in agreement with llama.cpp's `gpt2` model and `llama-bpe` pre-tokenizer.

Pre-tokenized pieces that are in the vocabulary are one token; all others are spelled byte by byte, so that
no token hides a digit, or a letter of a word to work on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from .words import CITIES, NAMES, WORDS

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = ("<think>", "</think>", "<tool_call>", "</tool_call>")

_PIECES = re.compile(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}"
    r"| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIALS = re.compile("(" + "|".join(map(re.escape, CONTROL + USER_DEFINED)) + ")")
_WORD = re.compile(r"[ _]?[A-Za-z]{2,}")
_MARKS = re.compile(r"[^A-Za-z0-9]{2,}")


def byte_symbols() -> list[str]:
    """Return the printable stand-ins of the 256 bytes that GPT-2 vocabularies use."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    symbols = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in symbols:
            symbols[byte] = chr(256 + len(symbols) - len(printable))
    return [symbols[byte] for byte in range(256)]


def collect_words(texts: Iterable[str], n_words: int) -> list[str]:
    """Return the `n_words` pieces of `texts` that save the most tokens as whole tokens."""
    spelled = {word.lower() for word in WORDS + CITIES + NAMES}
    saved: Counter[str] = Counter()
    for text in texts:
        for part in _SPECIALS.split(text)[::2]:
            for piece in _PIECES.findall(part):
                is_word = _WORD.fullmatch(piece) and piece.strip(" _").lower() not in spelled
                if is_word or _MARKS.fullmatch(piece):
                    saved[piece] += len(piece) - 1
    return sorted(word for word, _ in sorted(saved.items(), key=lambda item: (-item[1], item[0]))[:n_words])


class Tokenizer:
    """Map ASCII text to token ids and back; ids are bytes, then words, then special tokens."""

    def __init__(self, words: list[str]) -> None:
        """Take the whole-word tokens, in the order of their ids."""
        self.words = list(words)
        self.n_vocab = 256 + len(words) + len(CONTROL) + len(USER_DEFINED)
        self._ids = {word: 256 + i for i, word in enumerate(words)}
        first = 256 + len(words)
        self.specials = {name: first + i for i, name in enumerate(CONTROL + USER_DEFINED)}
        self._bytes = [bytes([i]) for i in range(256)] + [text.encode() for text in (*words, *self.specials)]

    def encode(self, text: str) -> list[int]:
        """Tokenize `text`, special tokens included.

        Raises:
            ValueError: The text is not ASCII, for which the splitting rules here are not those of llama.cpp.
        """
        if not text.isascii():
            raise ValueError(f"only ASCII text can be tokenized here, not {text!r}")
        tokens: list[int] = []
        for i, part in enumerate(_SPECIALS.split(text)):
            if i % 2:
                tokens.append(self.specials[part])
                continue
            for piece in _PIECES.findall(part):
                known = self._ids.get(piece)
                tokens.extend(piece.encode() if known is None else (known,))
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens`, special tokens included."""
        return b"".join(self._bytes[token] for token in tokens).decode(errors="replace")

    def gguf_tokens(self) -> list[str]:
        """Return all tokens in the spelling of a GGUF vocabulary."""
        symbols = byte_symbols()
        return [
            *symbols,
            *("".join(symbols[byte] for byte in word.encode()) for word in self.words),
            *self.specials,
        ]
