"""The bundled demo model."""

from __future__ import annotations

from pathlib import Path

__all__ = ["demo_model_path"]


def demo_model_path() -> Path:
    """Return the path of the bundled demo model, a GGUF file of 2 MB.

    Raises:
        FileNotFoundError: The build left the model out.
    """
    path = Path(__file__).with_name("pyllama-demo.gguf")
    if not path.is_file():
        raise FileNotFoundError(
            f"this build of pyllama left the demo model out (no {path}); pass the path of a GGUF model"
        )
    return path
