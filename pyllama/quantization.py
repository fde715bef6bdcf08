"""Model quantisation: the same model in a smaller number format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pyllama._core import _llama
from pyllama.errors import EngineError, InvalidRequestError, ModelLoadError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["quantize"]


def quantize(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    ftype: str = "Q4_K_M",
    *,
    n_threads: int | None = None,
    imatrix: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | None = None,
    allow_requantize: bool = False,
    quantize_output: bool = True,
    output_type: str | None = None,
    embedding_type: str | None = None,
    pure: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Path:
    """Write the GGUF model ``src`` to ``dst`` in the number formats of ``ftype``, and return ``dst``.

    ``ftype`` is a name of llama-quantize, such as "Q8_0", "Q4_K_M" or "IQ2_XS". Tensors whose shape does
    not fit get the next format that does. ``imatrix`` is a file of llama-imatrix, or the values by tensor
    name, one for each column; the smallest formats need it. ``allow_requantize`` takes sources that are
    quantised already. ``quantize_output`` False leaves output.weight as it is; ``output_type`` and
    ``embedding_type`` are formats for output.weight and token_embd.weight ("Q6_K"). ``pure`` gives all
    tensors the same format. ``progress`` is called
    with a value in [0, 1].

    An existing ``dst`` is replaced once the new file is complete; after an error or an interrupt, which
    take effect between two tensors, nothing is left of it. The GIL is released. Raises ModelLoadError when
    ``src`` is no model, InvalidRequestError when a value cannot be used or the model cannot be quantised
    so, OSError when the disk refuses.
    """
    source, destination = Path(src), Path(dst)
    _load_only(source).close()
    if destination.exists() and destination.samefile(source):
        raise InvalidRequestError(f"dst={str(dst)!r} is src: quantize into another file", param="dst")
    part = destination.with_name(f"{destination.name}.{os.getpid()}.part")
    with part.open("xb"):
        pass  # says plainly why the folder cannot be written to, and claims the name
    try:
        _llama.quantize_file(
            source,
            part,
            ftype,
            n_threads=n_threads,
            imatrix=imatrix,
            allow_requantize=allow_requantize,
            quantize_output=quantize_output,
            output_type=output_type,
            embedding_type=embedding_type,
            pure=pure,
            progress=progress,
        )
        _check_complete(part)
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
    return destination


def _load_only(path: Path) -> _llama.Model:
    return _llama.Model(path, vocab_only=True)


def _check_complete(path: Path) -> None:
    """Llama.cpp overlooks a full disk; a file that ends too early does not load."""
    try:
        _load_only(path).close()
    except ModelLoadError as error:
        raise EngineError(f"the file written is not complete: is the disk full? ({error})") from error
