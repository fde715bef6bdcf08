"""What ``import pyllama`` costs, and what the package says it exports."""

import subprocess
import sys

import pytest

import pyllama


def test_import_is_lazy() -> None:
    code = (
        "import sys, pyllama\n"
        "heavy = {'numpy', 'starlette', 'hypercorn', 'pyllama._core._llama'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "pyllama.Model\n"
        "assert 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd="/")


def test_all_names_exist() -> None:
    for name in pyllama.__all__:
        assert getattr(pyllama, name) is not None
    assert set(pyllama.__all__) <= set(dir(pyllama))
    assert sorted(pyllama.__all__) == list(pyllama.__all__)


def test_unknown_names_raise() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Llama'"):
        _ = pyllama.Llama
