"""Who may import whom, who may know what: read from the source, not from good intentions.

The layers, inside out: ``errors``, ``files`` and ``json_text`` know nothing of ours, ``options``
(with ``plugins`` and ``yaml_text``) only these; ``privacy`` knows all of them; ``client`` and
``strategies`` know them and ``privacy``; ``sim`` puts the parts together; ``server`` knows all. The
hospital's side never knows ``sim``: what it is sent is a desk. Every import of ours names the
package ``metaward``: a user's own ``client.py`` must not stand in the way.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaward.client.tasks.kinds import KINDS

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("client", "privacy", "server", "strategies")
FILES = sorted(
    [
        *(ROOT / "metaward").glob("*.py"),
        *(path for name in PRODUCT for path in (ROOT / name).rglob("*.py")),
    ]
)
TREES = {
    path.relative_to(ROOT).as_posix().removeprefix("metaward/"): ast.parse(path.read_text())
    for path in FILES
}
TEXT = {"json_text", "options", "plugins", "yaml_text"}
BARE = {*PRODUCT, *TEXT, "errors", "files", "sim", "sections", "tests", "benchmarks"}

MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "json_text": set(),
    "plugins": set(),
    "options": {"plugins"},
    "yaml_text": {"options"},
    "privacy": TEXT,
    "client": {*TEXT, "files", "privacy"},
    "strategies": {*TEXT, "privacy"},
    "sections": {*TEXT, "client", "strategies"},
    "sim": {*TEXT, "client", "files", "privacy", "sections", "strategies"},
    "server": {*TEXT, "client", "files", "privacy", "sections", "sim", "strategies"},
}
DOOR = {"door", "register", "result"}
ALL = {*PRODUCT, *TEXT, *DOOR, "files", "sections", "sim"}
"""What the other files of metaward/, the door and its tools, may import."""


def layer(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Whole names of the imported modules, wherever in the file the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide their layer"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything that is called."""
    return (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


def names(tree: ast.AST) -> set[str]:
    """Names that a file uses or imports, plain or after a dot."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {
        alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names
    }


def using(*wanted: str) -> set[str]:
    return {path for path, tree in TREES.items() if names(tree) & set(wanted)}


def test_there_is_something_to_check() -> None:
    assert {"sim.py", "options.py", "client/app.py", "privacy/wire.py"} <= TREES.keys()
    assert len(TREES) > 30


@pytest.mark.parametrize("path", TREES)
def test_imports_keep_to_the_layers(path: str) -> None:
    allowed = MAY_IMPORT.get(path, MAY_IMPORT.get(layer(path), ALL)) | {layer(path), "errors"}
    found = [name.split(".") for name in imports(TREES[path])]
    assert not {parts[0] for parts in found} & BARE, "ours is imported as metaward.something"
    ours = {parts[1] for parts in found if parts[0] == "metaward" and len(parts) > 1}
    assert ours <= allowed


def test_networks_tasks_and_inner_loops_do_not_know_flower() -> None:
    """Of the hospital's side only the app is Flower's, and how records travel to its guard; so all
    else can be tested without."""
    knowing = {
        p for p, tree in TREES.items() if any(n.split(".")[0] == "flwr" for n in imports(tree))
    }
    assert {path for path in knowing if layer(path) == "client"} == {
        "client/app.py",
        "client/guarding/letters.py",
    }
    assert {path for path in knowing if layer(path) == "privacy"} == {"privacy/wire.py"}
    assert "sim.py" not in knowing
    assert "options.py" not in knowing


def test_records_are_known_to_the_wire_and_to_flowers_strategy_only() -> None:
    assert using("ArrayRecord", "ConfigRecord", "MetricRecord", "Array") == {
        "privacy/wire.py",
        "strategies/meta.py",
    }
    grids = {path for path in TREES if path.startswith("server/engines/")}
    assert using("RecordDict") <= {"privacy/wire.py", "client/guarding/letters.py", *grids}


def test_keys_of_records_are_spelled_in_the_wire_only() -> None:
    """No other file reaches into a message's content."""
    for path, tree in TREES.items():
        reached = [
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "content"
        ]
        assert reached == [], path


def test_only_mechanisms_and_the_wire_make_what_can_leave() -> None:
    sealed = {"Release", "Scores"}
    for path, tree in TREES.items():
        made = {name.split(".")[-1] for name in calls(tree)} & sealed
        assert not made or layer(path) == "privacy", f"{path} makes {made}"
    copied = {path for path, tree in TREES.items() if {"replace"} & set(calls(tree))}
    assert not copied & {path for path in using(*sealed) if layer(path) != "privacy"}


def test_answers_are_encoded_at_one_place() -> None:
    assert using("encode_answer") == {"client/answering.py"}


def test_nothing_is_ever_unpickled_from_a_message() -> None:
    """The in-process engine pickles its own messages between its own processes; ``shipping`` the
    parts that a program registered, for the processes of one simulation. Nobody else pickles."""
    assert using("pickle") | using("cloudpickle", "dill", "joblib") == {
        "client/shipping.py",
        "server/engines/inprocess.py",
    }


def test_registered_parts_are_unpacked_at_two_places_of_a_simulation_only() -> None:
    """A worker that our process starts, and what an engine of ours left in its private folder; no
    way leads there from a message, or from a hospital that has a policy."""
    assert using("unpack") & using("shipping") == {"server/engines/inprocess.py"}
    assert using("receive") == {"client/guard.py", "server/app.py"}


def test_no_array_is_unpickled() -> None:
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                safe = {"allow_pickle": False, "weights_only": True}[node.arg]
                assert isinstance(node.value, ast.Constant)
                assert node.value.value is safe


GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64"}


@pytest.mark.parametrize("path", TREES)
def test_randomness_is_an_argument(path: str) -> None:
    tree = TREES[path]
    assert "random" not in {name.split(".")[0] for name in imports(tree)}
    for call in calls(tree):
        owner, _, name = call.rpartition(".")
        if owner in ("np.random", "numpy.random"):
            assert name in GENERATORS, call
        assert (owner, name) not in {
            ("torch", "manual_seed"),
            ("torch", "seed"),
            ("torch.random", "manual_seed"),
            ("torch.cuda", "manual_seed"),
            ("torch.cuda", "manual_seed_all"),
        }, call
        if owner == "torch.default_generator":  # the shared one: seeded and put back at one place
            assert path == "client/models/drawing.py", call
        if owner == "torch" and name in ("rand", "randn", "randint", "randperm", "bernoulli"):
            assert has_generator(tree, call), f"{call} without a generator"


def has_generator(tree: ast.AST, call: str) -> bool:
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == call]
    return all("generator" in {keyword.arg for keyword in node.keywords} for node in found)


def test_only_noise_may_come_from_the_operating_system() -> None:
    """An unseeded generator makes a run unrepeatable, which is right for privacy noise alone."""
    for path, tree in TREES.items():
        if layer(path) == "privacy":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
                assert node.args, f"{path}, line {node.lineno}: default_rng() without a seed"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_the_tests_mirror_the_folders() -> None:
    """But for the contracts of all registries, the door, the plug-ins of docs/extending.md, attacks
    on and faults of whole federations, and what is thrown at decoders."""
    others = ("", "attacks", "contracts", "door", "extending", "faults", "fuzz")
    apart = {ROOT / "tests" / name for name in others}
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")} - apart
    assert len(folders) > 10
    missing = [f for f in folders if not (ROOT / f.relative_to(ROOT / "tests")).is_dir()]
    assert missing == []


def test_a_class_name_is_defined_once() -> None:
    """Two things of one name are taken for each other."""
    defined = Counter(
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    )
    assert not {name for name, count in defined.items() if count > 1}


WORDS = {
    *KINDS,
    *(score.name for kind in KINDS.values() for score in kind.scores),
    *(score.label.partition(",")[0] for kind in KINDS.values() for score in kind.scores),
}
"""What kinds of task and their scores are called, in files and for people."""


def spelled(tree: ast.AST) -> list[str]:
    """Texts with one of the ``WORDS``; docstrings may say what they like."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    word = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)
    return [
        node.value
        for node in texts
        if isinstance(node.value, str) and id(node) not in prose and word.search(node.value)
    ]


def compared(tree: ast.AST) -> list[str]:
    """Comparisons of a specification's kind with anything."""
    sides = [
        (node, ast.unparse(side))
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
    ]
    return [ast.unparse(node) for node, side in sides if re.search(r"spec(\(\))?\.kind$", side)]


NAMING = {"client/tasks/kinds.py", "client/scores/known.py"}
"""Where kinds and scores get their names."""


@pytest.mark.parametrize("path", sorted(TREES.keys() - NAMING))
def test_kinds_and_scores_are_asked_and_never_named(path: str) -> None:
    assert spelled(TREES[path]) == []
    assert compared(TREES[path]) == []


def test_only_sources_losses_and_scores_say_which_kind_they_are_of() -> None:
    named = using("CLASSIFICATION", "REGRESSION", "ACCURACY", "MEAN_SQUARED_ERROR")
    folders = {path.rpartition("/")[0] for path in named}
    assert folders == {"client/tasks", "client/losses", "client/scores"}


def test_what_names_a_kind_or_a_score_is_found() -> None:
    code = """
def cells(table, spec):
    '''Accuracy of a classification.'''
    if spec.kind == other or table.metric == "mse":
        return f"query accuracy, {table.unit}"
    return spec.kind.classes and attack_accuracy
"""
    assert spelled(ast.parse(code)) == ["mse", "query accuracy, "]
    assert compared(ast.parse(code)) == ["spec.kind == other"]


def test_no_state_at_module_level_is_rebound() -> None:
    for path, tree in TREES.items():
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Global)], path


def test_every_public_name_is_there() -> None:
    """What ``__all__`` promises can be imported."""
    for path, tree in TREES.items():
        listed = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if listed:
            assert set(listed[0]) <= names(tree) | assigned(tree), path


def assigned(tree: ast.Module) -> set[str]:
    """Names that a file gives itself: by assignment, as a function or as a class."""
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    plain = [t for n in tree.body if isinstance(n, ast.Assign) for t in n.targets]
    plain += [n.target for n in tree.body if isinstance(n, ast.AnnAssign)]
    return defined | {t.id for t in plain if isinstance(t, ast.Name)}


def test_the_relay_to_a_guard_waits_for_neither_torch_nor_learners() -> None:
    """Flower starts a process for every message, and with a guard it only passes messages on."""
    look = "import sys, metaward.client.app; print({'torch', 'opacus', 'scipy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_no_command_waits_for_what_few_commands_need() -> None:
    """Statistics and scikit-learn take seconds to import; a program of its own looks."""
    look = "import sys, metaward.server.cli; print({'sklearn', 'scipy.stats'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
