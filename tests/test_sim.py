"""The whole configuration: what the files hold, what is refused, what hospitals are told."""

import json
import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from metaward import sim
from metaward.client.desk import Desk
from metaward.client.inner import ALGORITHMS
from metaward.options import ConfigError
from metaward.privacy import MECHANISMS
from metaward.strategies import COMBINE, OUTER
from metaward.yaml_text import override

FILES = [sim.DEFAULT, *sorted((sim.HERE / "configs").glob("*.yaml"))]


@pytest.fixture(scope="module")
def default() -> sim.Sim:
    return sim.load(sim.DEFAULT)


def mapping(*sets: str) -> dict[str, Any]:
    """The default run as plain data, with some keys changed."""
    found: dict[str, Any] = yaml.safe_load(sim.DEFAULT.read_text(encoding="utf-8"))
    for text in sets:
        override(found, text)
    return found


FIXED = (
    "client.tasks={source: phantom, hospitals: 12, unseen: 6}",
    "client.model={network: conv, width: 32, depth: 4, groups: 8}",
    "client.inner={algorithm: reptile}",
    "client.warm_up=null",
)


def faults_of(*sets: str) -> tuple[str, ...]:
    """Faults of a run whose parts do not change with the default file."""
    with pytest.raises(ConfigError) as caught:
        sim.parse(mapping(*FIXED, *sets), "sim.yaml")
    return caught.value.faults


# ------------------------------------------------------------------------ the files


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_loads_and_comes_back_equal(path: Path) -> None:
    run = sim.load(path)
    assert sim.parse(run.mapping()) == run
    assert sim.parse(json.loads(json.dumps(run.mapping()))) == run
    assert sim.parse(yaml.safe_load(yaml.safe_dump(run.mapping()))) == run
    assert hash(run) == hash(sim.load(path))


def test_default_file_shows_every_key(default: sim.Sim) -> None:
    """Nobody should have to read code to learn that a key exists."""

    def compare(shown: dict[str, Any], whole: dict[str, Any], path: str) -> None:
        assert shown.keys() == whole.keys(), path
        for key, value in whole.items():
            if isinstance(value, dict):
                compare(shown[key], value, f"{path}{key}.")

    compare(mapping(), default.mapping(), "")


@pytest.mark.parametrize(
    ("part", "by", "names"),
    [
        (("client", "inner"), "algorithm", sorted(ALGORITHMS.keys() - {"centroid", "fedavg"})),
        (("privacy",), "mechanism", sorted(MECHANISMS)),
        (("strategies", "combine"), "rule", sorted(COMBINE)),
        (("strategies", "outer"), "optimizer", sorted(OUTER)),
    ],
)
def test_default_file_names_the_choices_that_there_are(
    part: tuple[str, ...], by: str, names: list[str]
) -> None:
    (line,) = (x for x in sim.DEFAULT.read_text().splitlines() if x.strip().startswith(f"{by}:"))
    listed = set(re.findall(r"[a-z_0-9]+", line.split("#", 1)[1].split(":")[0]))
    assert set(names) <= listed


def test_a_run_is_frozen(default: sim.Sim) -> None:
    with pytest.raises(FrozenInstanceError):
        default.seed = 3  # type: ignore[misc]


# ---------------------------------------------------------------------------- faults


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        sim.load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        sim.load(tmp_path)


def test_file_and_line_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(sim.DEFAULT.read_text() + "\nname: again\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: line \d+: key 'name' is repeated"):
        sim.load(path)
    path.write_bytes(b"name: caf\xe9")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .*position 9"):
        sim.load(path)
    path.write_text("")
    with pytest.raises(ConfigError, match=r"mine\.yaml: file: null is not a mapping of client"):
        sim.load(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("privacy.mechanism=gausian", "privacy.mechanism: unknown 'gausian'; choose from none"),
        ("client.tasks.source=xray", "client.tasks.source: unknown 'xray'; choose from "),
        ("client.model.network=resnet", "client.model.network: unknown 'resnet'; choose from conv"),
        ("client.inner.algorithm=sgd", "client.inner.algorithm: unknown 'sgd'; choose from reptil"),
        ("strategies.combine.rule=krumm", "strategies.combine.rule: unknown 'krumm'; choose from"),
        ("strategies.outer.optimizer=Adam", "strategies.outer.optimizer: unknown 'Adam'; choose "),
        ("server.engine=ray", "server.engine: 'ray' is refused: must be 'inprocess' or 'flower'"),
        ("server.device=gpu", "server.device: 'gpu' is refused: must match pattern"),
        ("server.device=cuda:x", "server.device: 'cuda:x' is refused"),
        ("server.round=3", "server.round: unknown key; did you mean rounds?"),
        ("sever.rounds=3", "sever: unknown key; did you mean server?"),
        ("server.rounds=0", "server.rounds: 0 is refused: must be greater than or equal to 1"),
        ("server.rounds=1e2", "server.rounds: 100.0 is refused: must be a whole number"),
        ("server.evaluation.baselines=[scratch, sgd]", "server.evaluation.baselines[1]: 'sgd' is"),
        ("seed=-1", "seed: -1 is refused: must be greater than or equal to 0"),
        ("seed=4294967296", "seed: 4294967296 is refused: must be less than 4294967296"),
        ("name=../up", "name: '../up' is refused: must match pattern"),
        ("name=", "name: null is refused: must be text"),
        ("client.inner.lr=.nan", "client.inner.lr: nan is refused: must be finite"),
        ("client.inner.lr=0", "client.inner.lr: 0 is refused: must be greater than 0"),
        ("client.model.groups=5", "client.model.groups: 5 must divide width = 32"),
        ("client=", "client: null is not a mapping of tasks, model, inner, tasks_per_round"),
        ("strategies.quorum=0", "strategies.quorum: 0 is refused: must be greater than 0"),
        ("strategies.quorum=1.1", "strategies.quorum: 1.1 is refused: must be less than or equal"),
        ("strategies.hospitals_per_round=13", "strategies.hospitals_per_round: 13 is more than t"),
        ("client.model.depth=6", "client.model.depth: 6 halvings leave nothing of input shape"),
        ("client.inner={algorithm: centroid}", "client.inner.algorithm: centroid learns nothing"),
        ("client.tasks.unseen=0", "client.tasks"),
    ],
)
def test_fault_names_key_value_and_what_is_allowed(text: str, expected: str) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith(expected)


@pytest.mark.parametrize("section", ["client", "strategies", "privacy"])
def test_section_without_default_must_be_there(section: str) -> None:
    found = mapping()
    del found[section]
    with pytest.raises(ConfigError, match=f"^sim.yaml: {section}: missing; give it a mapping"):
        sim.parse(found, "sim.yaml")


def test_faults_of_all_sections_are_told_at_once() -> None:
    faults = faults_of(
        "nmae=x", "client.inner.lr='1'", "privacy.mechanism=dp", "server.workers=0", "seed=1.5"
    )
    keys = [fault.split(":")[0] for fault in faults]
    assert sorted(keys) == [
        "client.inner.lr",
        "nmae",
        "privacy.mechanism",
        "seed",
        "server.workers",
    ]


def test_faults_of_the_whole_are_told_at_once() -> None:
    faults = faults_of("client.model.depth=6", "strategies.hospitals_per_round=99")
    assert len(faults) == 2


# ---------------------------------------------------------------- overrides and JSON


def test_overrides_win_over_the_file(default: sim.Sim) -> None:
    run = sim.load(sim.DEFAULT, ["seed=9", "client.inner.lr=1e-2", "server.checkpoint.keep=1"])
    assert (run.seed, run.client.inner.lr, run.server.checkpoint.keep) == (9, 0.01, 1)  # type: ignore[attr-defined]
    assert run.strategies == default.strategies, "what is not named stays"


def test_override_with_a_fault_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"server\.rounds: 'x' is refused"):
        sim.load(sim.DEFAULT, ["server.rounds=x"])


def test_what_a_checkpoint_belongs_to_does_not_depend_on_where_the_server_works(
    tmp_path: Path,
) -> None:
    """Otherwise a run could not be resumed after its folder was moved."""
    one = sim.load(sim.DEFAULT, [f"data.root={tmp_path}", "server.out=a"])
    two = sim.load(sim.DEFAULT, ["data.root=null", "server.out=b"])
    assert one.canonical() == two.canonical()
    assert str(tmp_path) not in one.canonical()
    assert one.canonical() != sim.load(sim.DEFAULT, ["seed=12345"]).canonical()


@pytest.mark.parametrize("text", ["", "{", "[1,", "nonsense", '{"seed": NaN}', "null", "[]", "3"])
def test_json_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        sim.load_json(text)


# ------------------------------------------------------------------- what is put together


def test_a_desk_is_the_hospitals_part_of_the_run(default: sim.Sim) -> None:
    desk, client = default.desk(), default.client
    assert (desk.source, desk.architecture, desk.learner) == (
        client.tasks,
        client.model,
        client.inner,
    )
    assert (desk.tasks_per_round, desk.schedule) == (client.tasks_per_round, client.schedule)
    assert (desk.mechanism, desk.seed) == (default.privacy, default.seed)
    assert desk.rounds == default.server.rounds
    saved = default.server.checkpoint
    assert desk.rewind == saved.every * saved.keep, "as far back as a run may be resumed from"


def test_every_conflict_of_a_desk_has_a_place_in_the_file(default: sim.Sim) -> None:
    """A fault that only the whole shows is told by the yaml file's own keys."""
    faults = faults_of("client.model.depth=6", "client.schedule=random")
    assert [fault.split(":")[0] for fault in faults] == ["client.model.depth", "client.schedule"]
    assert sim.YAML.keys() <= {field.name for field in fields(Desk)}


def test_data_root_is_the_files_else_the_environments(
    default: sim.Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, other = tmp_path / "named", tmp_path / "other"
    named.mkdir(), other.mkdir()
    monkeypatch.delenv("METAWARD_DATA", raising=False)
    assert sim.data_root(default) is None
    monkeypatch.setenv("METAWARD_DATA", str(other))
    assert sim.data_root(default) == other
    run = replace(default, data=sim.Data(str(named)))
    assert sim.data_root(run) == named
    monkeypatch.chdir(tmp_path)
    assert sim.data_root(replace(default, data=sim.Data("named"))) == named


def test_data_root_that_is_no_folder_is_refused(
    default: sim.Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for missing in ("nowhere", "file"):
        run = replace(default, data=sim.Data(str(tmp_path / missing)))
        with pytest.raises(ConfigError, match=rf"data.root .*METAWARD_DATA.*{missing}.*not a fol"):
            sim.data_root(run)
    monkeypatch.setenv("METAWARD_DATA", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="gone"):
        sim.data_root(default)


# ------------------------------------------------------------------------------- extends


def test_a_file_says_only_what_it_changes(tmp_path: Path, default: sim.Sim) -> None:
    """Beside the file, or metaward's own; through several files; overrides come last."""
    (tmp_path / "one.yaml").write_text("extends: sim.yaml\nseed: 3\nprivacy: {epsilon: 3}\n")
    (tmp_path / "two.yaml").write_text("extends: one.yaml\nname: two\n")
    found = sim.load(tmp_path / "two.yaml", ["server.rounds=5"])
    privacy = replace(default.privacy, epsilon=3.0)
    server = replace(default.server, rounds=5)
    assert found == replace(default, seed=3, name="two", privacy=privacy, server=server)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: nowhere.yaml", "nowhere.yaml: no such file"),
        ("extends: 3", "extends: 3 is refused: must be the name of a file"),
        ("extends: own.yaml", "extends: own.yaml extends this file, directly or by others"),
        ("extends: other.yaml", "extends: own.yaml extends this file, directly or by others"),
        ("extends: sim.yaml\nsede: 3", "sede: unknown key"),
    ],
)
def test_what_cannot_be_extended_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("extends: own.yaml")
    with pytest.raises(ConfigError, match=words):
        sim.load(tmp_path / "own.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file, but a folder; the default one is"):
        sim.load(tmp_path)


@pytest.mark.parametrize("name", ["sim.yaml", "configs/sine.yaml", "configs/deploy.yaml"])
def test_files_that_come_with_metaward_are_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sim.load(Path(name)) == sim.load(sim.HERE / name)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("extends: sim.yaml\nname: mine\n")
    if name != "sim.yaml":  # which would extend itself
        assert sim.load(Path(name)).name == "mine"


@pytest.mark.parametrize("name", ["configs/none.yaml", "configs", "README.md", "pyproject.toml"])
def test_nothing_else_of_the_installation_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        sim.load(Path(name))


def test_every_file_that_the_readme_names_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the installation, too: it has the same folder of configurations."""
    named = set(re.findall(r"configs/[\w/-]+\.yaml", (sim.HERE / "README.md").read_text()))
    assert len(named) > 5
    monkeypatch.chdir(tmp_path)
    assert [name for name in named if not sim.shipped(Path(name)).is_file()] == []
    assert [name for name in named if not (sim.PACKAGE / name).is_file()] == []
