"""Finds what is wrong with an installation: facts are gathered, and then judged without looking further."""

from pyllama.doctor.checks import Finding, examine
from pyllama.doctor.facts import Core, Facts, ModelFile
from pyllama.doctor.gather import gather

__all__ = ["Core", "Facts", "Finding", "ModelFile", "examine", "gather"]
