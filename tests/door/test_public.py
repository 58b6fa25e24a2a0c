"""Every public name is documented, and none brings more along than it needs."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

import metaward as mw
from metaward.sim import HERE

PAGE = (HERE / "docs" / "python.md").read_text(encoding="utf-8")


def public() -> Iterator[tuple[str, Any]]:
    """Names as a user writes them, those of classes and of ``register`` included."""
    for name in mw.__all__:
        thing = getattr(mw, name)
        yield f"metaward.{name}", thing
        if inspect.ismodule(thing) or thing in (mw.Model, mw.Records, mw.Result):
            for inner, part in vars(thing).items():
                if _is_public(thing, inner, part):
                    yield f"metaward.{name}.{inner}", part


def _is_public(owner: Any, name: str, part: Any) -> bool:
    if name.startswith("_"):
        return False
    if inspect.ismodule(owner):
        return inspect.isfunction(part) and part.__module__ == owner.__name__
    return callable(part) or isinstance(part, property) or hasattr(part, "func")


NAMES = dict(public())


def test_there_is_something_to_check() -> None:
    assert {"metaward.load", "metaward.register.network", "metaward.Result.adapt"} <= NAMES.keys()
    assert len(NAMES) > 25


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_what_it_is(name: str) -> None:
    text = inspect.getdoc(NAMES[name]) or ""
    assert len(text.split()) >= 5, f"{name} has no docstring"
    assert text.split("\n\n")[0].rstrip().endswith((".", ":")), f"{name}: no whole sentence"


@pytest.mark.parametrize("name", [n for n, thing in NAMES.items() if inspect.isfunction(thing)])
def test_a_function_explains_each_parameter(name: str) -> None:
    text = inspect.getdoc(NAMES[name]) or ""
    for parameter in inspect.signature(NAMES[name]).parameters:
        known = parameter == "self" or f"{parameter}:" in text or f"``{parameter}``" in text
        assert known, f"{name}: nothing about {parameter}"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_on_the_page(name: str) -> None:
    short = name.removeprefix("metaward.")
    assert f"`{short.rpartition('.')[2]}" in PAGE or f"`mw.{short}" in PAGE, name


@pytest.mark.parametrize("name", [n for n, thing in NAMES.items() if inspect.isfunction(thing)])
def test_a_function_has_types(name: str) -> None:
    signature = inspect.signature(NAMES[name])
    untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    assert set(untyped) <= {"self"}
    assert signature.return_annotation is not signature.empty


def test_names_are_listed_once_and_reach_what_they_promise() -> None:
    assert sorted(mw.__all__) == sorted(set(mw.__all__))
    assert set(mw.__all__) <= set(dir(mw))
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = mw.lode  # type: ignore[attr-defined]


def test_the_package_says_that_it_has_types() -> None:
    assert (HERE / "metaward" / "py.typed").is_file()
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["metaward"]


@pytest.mark.parametrize("module", ["metaward", "metaward.client.app", "metaward.register"])
def test_a_hospitals_process_does_not_import_the_server(module: str) -> None:
    script = (
        f"import sys, {module}\n"
        "print([n for n in sys.modules if n.startswith(('metaward.server', 'metaward.sim', "
        "'metaward.strategies', 'metaward.door'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "[]\n"
