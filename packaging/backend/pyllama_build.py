"""The build backend: scikit-build-core's hooks, with one line where CMake is missing or too old.

Whatever else a build may lack is told by cmake/PyllamaRequirements.cmake, once CMake is there to read it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import scikit_build_core.build
from scikit_build_core.errors import CMakeNotFoundError

P = ParamSpec("P")
T = TypeVar("T")


def _told_in_one_line(hook: Callable[P, T]) -> Callable[P, T]:
    @wraps(hook)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return hook(*args, **kwargs)
        except CMakeNotFoundError as error:
            how = "pip install cmake, install your system's package of that name, or set CMAKE_EXECUTABLE"
            raise SystemExit(f"pyllama: {error}: {how}") from None

    return told


__all__ = list(scikit_build_core.build.__all__)
globals().update({name: _told_in_one_line(getattr(scikit_build_core.build, name)) for name in __all__})
