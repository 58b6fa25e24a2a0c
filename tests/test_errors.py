"""The tree of errors: drawn as it is, and each error tells command and hospital what to do."""

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from metaward import errors
from metaward.client.errors import DataError, NodeError
from metaward.errors import BAD_INPUT, FAILED, MetawardError
from metaward.options import ConfigError
from metaward.privacy import REFUSALS
from metaward.privacy.asked import PolicyError
from metaward.privacy.ledger.errors import CODES, LedgerError
from metaward.privacy.release import POLICY_CODES
from metaward.privacy.wire import WireError
from tests.test_layering import TREES

LINE = re.compile(r"^    (?P<indent>[│├└─ ]*)(?P<name>\w+)(?: \((?P<other>\w+)\))?(?:  .*)?$")


def drawn() -> Iterator[tuple[str, str, str]]:
    """(class, its parent, a second parent that is Python's own) as the docstring draws them."""
    above: dict[int, str] = {}
    for line in str(errors.__doc__).splitlines():
        found = LINE.match(line)
        if found:
            depth = len(found["indent"])
            above[depth] = found["name"]
            if depth:
                yield found["name"], above[depth - 4], found["other"] or ""


def real() -> set[type[MetawardError]]:
    """Every class below the base, of all modules."""
    for path in TREES:
        if not path.endswith("__main__.py"):
            name = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            importlib.import_module(f"metaward.{name}" if name != "__init__" else "metaward")

    def below(cls: type[MetawardError]) -> set[type[MetawardError]]:
        return {c for sub in cls.__subclasses__() for c in {sub, *below(sub)}}

    return {cls for cls in below(MetawardError) if cls.__module__.startswith("metaward.")}


def test_the_tree_is_drawn_as_it_is() -> None:
    found = set()
    for cls in real():
        first, *others = cls.__bases__
        found.add((cls.__name__, first.__name__, "".join(o.__name__ for o in others)))
    assert set(drawn()) == found
    assert len(found) > 10


def test_every_error_of_ours_is_in_it() -> None:
    """Nobody raises a class of ours that the command line does not know."""
    known = {cls.__name__ for cls in real()} | {"MetawardError"}
    names = {base.__name__ for cls in real() for base in cls.__mro__} | {"Warning"}
    defined = {
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & names
    }
    assert defined == known


@pytest.mark.parametrize("cls", sorted(real(), key=lambda cls: cls.__name__))
def test_each_says_how_a_command_ends_and_what_may_leave(cls: type[MetawardError]) -> None:
    assert cls.exit_code in (FAILED, BAD_INPUT)
    assert cls.code in REFUSALS


def test_codes_and_exit_codes_by_hand() -> None:
    known = {
        ConfigError(["wrong"]): ("bad-request", 2),
        DataError("lost"): ("data-refused", 2),
        NodeError("device-missing", "no"): ("device-missing", 2),
        WireError("keys"): ("bad-request", 2),
        PolicyError("policy-tasks", "five"): ("policy-tasks", 2),
        LedgerError("ledger-missing", "gone"): ("ledger-missing", 2),
        LedgerError("ledger-damaged", "bad"): ("ledger-damaged", 1),
    }
    for error, (code, exit_code) in known.items():
        assert (error.code, error.exit_code) == (code, exit_code)
    assert CODES | POLICY_CODES < REFUSALS
