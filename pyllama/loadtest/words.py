"""Seeded prompts of common English words, each about one token in a BPE vocabulary."""

from __future__ import annotations

import random

__all__ = ["WORDS", "prompt", "random_words"]

WORDS = (
    "about above after again air all also always animal another answer any ask away back because been "
    "before began begin being below best between big book both boy build but call came can car carry "
    "change city close cold come could country cut day did different does dog done door down draw each "
    "early earth eat end enough even every example eye face family far farm father feet few find fire "
    "first fish five fly follow food for form found four friend from full game gave get girl give good "
    "got great green group grow had half hand hard has have head hear heat help her here high him his "
    "home horse hour house how idea inch into just keep kind king knew know land large last late learn "
    "leave left letter life light like line list little live long look love low made make man many map "
    "mark may mean men might mile more morning most mother mountain move much music must name near need "
    "never new next night north note notice now number off often old once one only open order other our "
    "out over own page paper part pass people person picture piece place plan plane plant play point port "
    "pose power press problem pull put question quick rain read ready real red rest right river road rock "
    "room round rule run said same saw say school sea second see seem self sentence serve set several "
    "shape ship short should show side simple since sing small snow some song soon sound south spell "
    "stand star start state stay step still stop story study such sun sure table tail take talk tell ten "
    "than that their them then there these they thing think this those thought thousand three through "
    "time told too took top toward town travel tree true try turn two under unit until use very voice "
    "wait walk want war warm watch water way week weight well went were west what wheel when where which "
    "while white who whole why will wind with wonder wood word work world would write year you young "
).split()


def random_words(count: int, seed: str) -> str:
    """Return `count` words that depend on `seed` alone."""
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def prompt(words: int, shared: int, seed: int, number: int) -> str:
    """Return request `number`'s prompt of `words` words; the first `shared` are the same for every number.

    The rest is unlike any other prompt of the same seed from its first word on, for all practical purposes.
    """
    shared = min(shared, words)
    parts = [random_words(shared, f"{seed}/shared"), random_words(words - shared, f"{seed}/{number}")]
    return " ".join(part for part in parts if part)
