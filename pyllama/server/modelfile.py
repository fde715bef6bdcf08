"""A quick look at a model file, before a port is opened for it."""

from __future__ import annotations

from pathlib import Path

from pyllama.errors import ModelLoadError

__all__ = ["check_model_file"]

# Magic, version, number of tensors, number of key-value pairs.
_HEADER_BYTES = 24


def check_model_file(path: str) -> None:
    """Check that a file is there, can be read, and starts like a GGUF.

    Raises:
        ModelLoadError: One line saying what is wrong.
    """
    file = Path(path)
    if file.is_dir():
        raise ModelLoadError(f"cannot load the model {path}: it is a directory")
    try:
        with file.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise ModelLoadError(f"cannot load the model {path}: no such file") from None
    except OSError as exc:
        raise ModelLoadError(f"cannot load the model {path}: {(exc.strerror or str(exc)).lower()}") from None
    if header[:4] != b"GGUF":
        raise ModelLoadError(f"cannot load the model {path}: it is not a GGUF file")
    if len(header) < _HEADER_BYTES:
        raise ModelLoadError(f"cannot load the model {path}: it is cut off after {len(header)} bytes")
