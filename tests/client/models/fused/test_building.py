"""The library is built once, by one process, and is absent without harm."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metaward.client.models.fused import NoKernel, building
from tests.client.models.fused.compilers import needs_compiler


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for libraries, and no compiler of the environment."""
    monkeypatch.setenv("METAWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "cache"


def compiler(path: Path, line: str) -> str:
    """A program in place of a compiler; ``$out`` is the file that it is to make."""
    path.write_text(f"#!/bin/sh\nfor out; do :; done\n{line}\n")
    path.chmod(0o755)
    return str(path)


def reason() -> str:
    found = building._outcome.__wrapped__()
    assert isinstance(found, str)
    return found


def test_without_a_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "there is no C++ compiler (c++, g++, clang++)" in reason()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in reason()


def test_without_a_folder_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the folder should be stops every user, root included."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METAWARD_CACHE", str(tmp_path / "file" / "cache"))
    assert "the kernel could not be built" in reason()


@pytest.mark.skipif(os.getuid() == 0, reason="root writes anywhere")
def test_in_a_folder_that_is_read_only(cache: Path) -> None:
    cache.mkdir(mode=0o500)
    assert "the kernel could not be built" in reason()


def test_where_the_compiler_fails(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", "echo unknown option >&2; exit 1"))
    assert "cannot compile the kernel: unknown option" in reason()
    assert not list(cache.glob("*.so"))


def test_where_what_was_built_cannot_be_loaded(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", 'echo rubbish > "$out"'))
    assert "the kernel could not be built" in reason()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_what_others_can_write_is_not_loaded(
    mode: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", 'echo rubbish > "$out"'))
    assert "the kernel could not be built" in reason()
    (library,) = cache.glob("*.so")
    library.chmod(mode)
    assert "can be written by others" in reason()
    library.chmod(0o600)
    cache.chmod(0o777)
    assert "can be written by others" in reason()


def test_many_at_once_compile_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f'echo once >> {tmp_path / "log"}; echo half > "$out"; sleep 0.5; echo whole > "$out"'
    monkeypatch.setenv("CXX", compiler(tmp_path / "cc", line))
    with ThreadPoolExecutor(4) as threads:
        kept = set(threads.map(lambda _: building._kept().read_text(), range(4)))
    assert kept == {"whole\n"}
    assert (tmp_path / "log").read_text() == "once\n"


def test_another_processor_or_source_has_a_library_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = building._key()
    assert building._key() == known
    monkeypatch.setattr(building, "_processor", lambda: "another one")
    assert building._key() != known


def test_a_process_tries_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_outcome", lambda: "no reason at all")
    with pytest.raises(NoKernel, match="no reason at all"):
        building.library()


@needs_compiler
def test_the_kernel_is_there() -> None:
    assert building.library().metaward_gradients_32
    assert "-ffast-math" not in building.OPTIONS
