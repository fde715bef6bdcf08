"""The installed version: the one place that knows what the distribution is called."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["DISTRIBUTION", "package_version"]

DISTRIBUTION = "pyllama-engine"


def package_version() -> str:
    """Return the installed version, or "unknown" where the package lies about without its metadata."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
