"""Every public name says what it does, and has a type."""

import ast
import inspect
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyllama
from pyllama._core import _llama

STUB = Path(_llama.__file__).with_name("_llama.pyi")


def members(owner: type) -> Iterator[tuple[str, object]]:
    """The public members, also those that a private base holds."""
    for part in owner.__mro__:
        if part is owner or part.__name__.startswith("_"):
            for name, value in vars(part).items():
                if not name.startswith("_"):
                    yield name, value


def is_function(value: object) -> bool:
    """Cython's functions are of no type that inspect knows."""
    return callable(value) or isinstance(value, staticmethod | classmethod)


def undocumented(name: str, value: object) -> Iterator[str]:
    if isinstance(value, types.ModuleType):
        if not value.__doc__:
            yield name
        for inner in value.__all__:
            yield from undocumented(f"{name}.{inner}", getattr(value, inner))
        return
    if isinstance(value, type):
        if "__doc__" not in vars(value) or not value.__doc__:
            yield name
        for inner, member in members(value):
            is_property = isinstance(member, property) or inspect.isgetsetdescriptor(member)
            # Cython's plain attributes cannot have one: the class's has to name them.
            named = inspect.isgetsetdescriptor(member) and f"``{inner}``" in (value.__doc__ or "")
            if (is_property or is_function(member)) and not (getattr(member, "__doc__", None) or named):
                yield f"{name}.{inner}"
        return
    if is_function(value) and not value.__doc__:
        yield name


@pytest.mark.parametrize("name", pyllama.__all__)
def test_public_names_have_docstrings(name: str) -> None:
    assert list(undocumented(name, getattr(pyllama, name))) == []


def test_a_missing_docstring_is_found() -> None:
    class Bare:
        """Has one."""

        def method(self) -> None: ...

    assert list(undocumented("Bare", Bare)) == ["Bare.method"]


def documented(name: str) -> list[object]:
    """A public name's own docstring carriers: itself, or its methods and properties."""
    value = getattr(pyllama, name)
    owners = [member for _, member in members(value)] if isinstance(value, type) else [value]
    return [owner for owner in owners if isinstance(owner, property) or is_function(owner)]


@pytest.mark.parametrize("name", pyllama.__all__)
def test_docstrings_begin_with_one_line(name: str) -> None:
    """One line that ends with a full stop, then a blank one."""
    for owner in documented(name):
        first, _, rest = (inspect.getdoc(owner) or "").partition("\n")
        assert first.endswith((".", ":")), first
        assert not rest or rest.startswith("\n"), first


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(pyllama.__file__).with_name("py.typed").is_file()
    functions = [node for node in ast.walk(ast.parse(STUB.read_text())) if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 100
    for function in functions:
        arguments = function.args
        assert function.returns is not None, function.name
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            assert argument.annotation is not None or argument.arg in ("self", "cls"), function.name


def test_python_functions_are_typed() -> None:
    for name in pyllama.__all__:
        value = getattr(pyllama, name)
        owners = [member for _, member in members(value)] if isinstance(value, type) else [value]
        for function in filter(inspect.isfunction, owners):
            parameters = inspect.signature(function).parameters.values()
            for parameter in parameters:
                assert parameter.annotation is not parameter.empty or parameter.name == "self", function
