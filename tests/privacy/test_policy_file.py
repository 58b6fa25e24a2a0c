"""The policy's file: strict, complete, explained; and the shipped examples do what they say."""

import errno
import re
from dataclasses import asdict, fields, replace
from math import erfc, exp, sqrt
from pathlib import Path
from typing import Any

import pytest
import yaml

from metaward.options import ConfigError, plain
from metaward.privacy.asked import Asked, PolicyError
from metaward.privacy.policy import Policy
from metaward.privacy.release import POLICY_CODES

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {name: ROOT / "policies" / f"{name}.yaml" for name in ("strict", "research", "open")}
SCORES = ("mse", "accuracy")
STRICT, RESEARCH, _ = (Policy.read(path, SCORES) for path in EXAMPLES.values())
KEYS = [field.name for field in fields(Policy)]


def write(tmp_path: Path, policy: Policy, **changes: Any) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(plain(policy) | changes))
    return path


def faults(tmp_path: Path, policy: Policy = RESEARCH, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Policy.read(write(tmp_path, policy, **changes), SCORES)
    return str(caught.value)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    assert Policy.read(write(tmp_path, STRICT), SCORES) == STRICT
    assert Policy.open(write(tmp_path, RESEARCH), SCORES) == RESEARCH


def test_a_typo_is_named_with_its_nearest_key(tmp_path: Path) -> None:
    text = faults(tmp_path, epsilom=1.0)
    assert "policy.yaml: epsilom: unknown key; did you mean epsilon?" in text


@pytest.mark.parametrize("key", KEYS)
def test_no_key_has_a_default(tmp_path: Path, key: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in plain(RESEARCH).items() if k != key}))
    with pytest.raises(ConfigError, match=rf"policy.yaml: {key}: missing"):
        Policy.read(path, SCORES)


def test_a_file_from_before_draws_could_be_refused_is_told_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in plain(STRICT).items() if k != "sampling_rate"})
    )
    code, reason = code_of(path)
    assert code == "policy-unreadable"
    assert "sampling_rate: missing; write 1.0" in reason
    assert "null where units is [none]" in reason


def test_no_key_allows_seeded_noise(tmp_path: Path) -> None:
    assert not [key for key in KEYS if "seed" in key]
    assert "seeded_noise: unknown key" in faults(tmp_path, seeded_noise=True)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("mechanisms", ["smus"], "must be one of none, sums, whole"),
        ("units", ["recrod"], "must be one of none, record, patient"),
        ("epsilon", 0.0, "greater than 0"),
        ("epsilon", 20.5, "less than or equal to 20"),
        ("epsilon", float("inf"), "must be finite"),
        ("epsilon", float("nan"), "must be finite"),
        ("epsilon", "3", "without quotes"),
        ("delta", 0.01, "less than or equal to 0.001"),
        ("delta", 0.0, "greater than or equal to"),
        ("noise_multiplier", 0.0, "greater than 0"),
        ("clip", -1.0, "greater than or equal to"),
        ("sampling_rate", 0.0, "greater than 0"),
        ("sampling_rate", 1.5, "less than or equal to 1"),
        ("steps", 0, "greater than or equal to 1"),
        ("steps", 2.5, "whole number"),
        ("tasks", True, "whole number"),
        ("rounds", None, "whole number"),
        ("train", "yes", "true or false"),
        ("episodes", -1, "greater than or equal to 0"),
        ("metrics", ["loss"], "metrics[0]: 'loss' is refused: must be 'accuracy' or 'mse'"),
        ("metrics", ["mse", "acuracy"], "metrics[1]: 'acuracy' is refused: must be 'accuracy' or"),
        ("metrics", [1], "must be text"),
        ("hospital", "", "at least 1 character"),
    ],
)
def test_a_bad_value_is_refused_by_name(tmp_path: Path, key: str, value: Any, words: str) -> None:
    text = faults(tmp_path, **{key: value})
    assert f"policy.yaml: {key}" in text
    assert words in text


NONE = {
    "mechanisms": ["none"],
    "units": ["none"],
    "epsilon": None,
    "delta": None,
    "noise_multiplier": None,
    "clip": None,
    "sampling_rate": None,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mechanisms": []}, "mechanisms: [] allows no run"),
        ({"units": []}, "units: [] allows no run"),
        ({"units": ["record", "none"]}, "units: none beside others"),
        ({"units": ["none"]}, "epsilon: 8.0 promises nothing for unit none; write null"),
        (NONE | {"clip": 1.0}, "clip: 1.0 promises nothing for unit none; write null"),
        ({"mechanisms": ["sums", "none"]}, "mechanisms: none protects none of record, patient"),
        ({"units": ["record", "hospital"], "mechanisms": ["sums"]}, "none of sums protects hosp"),
        ({"epsilon": None}, "epsilon: null is no limit; give a number"),
        ({"delta": None}, "delta: null is no limit; give a number"),
        ({"noise_multiplier": None}, "noise_multiplier: null is no limit"),
        ({"clip": None}, "clip: null is no limit"),
        ({"sampling_rate": None}, "sampling_rate: null is no limit"),
        ({"loss": True}, "loss: true needs units: [none]"),
        ({"metrics": []}, "metrics: [] leaves evaluate: true nothing to send"),
        ({"episodes": 0}, "episodes: 0 leaves evaluate: true nothing to send"),
        ({"evaluate": False}, "episodes: 200 needs evaluate: true"),
        ({"evaluate": False, "episodes": 0}, "metrics: ['accuracy', 'mse'] needs evaluate: true"),
    ],
)
def test_keys_that_contradict_each_other(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in faults(tmp_path, **changes)


def test_all_contradictions_are_named_at_once(tmp_path: Path) -> None:
    text = faults(tmp_path, epsilon=None, loss=True, metrics=[])
    assert all(key in text for key in ("epsilon: null", "loss: true", "metrics: []"))


def test_an_unprotected_policy_is_possible_and_says_so_by_its_nulls(tmp_path: Path) -> None:
    policy = Policy.read(write(tmp_path, RESEARCH, **NONE, loss=True), SCORES)
    assert policy.budget() is None
    assert policy.loss


# ------------------------------------------------------------------------- fail closed


def code_of(path: Path | None) -> tuple[str, str]:
    with pytest.raises(PolicyError) as caught:
        Policy.open(path, SCORES)
    assert caught.value.code in POLICY_CODES
    return caught.value.code, caught.value.reason


def test_no_policy_no_participation(tmp_path: Path) -> None:
    assert code_of(None) == ("policy-missing", code_of(None)[1])
    assert "node's config" in code_of(None)[1]
    code, reason = code_of(tmp_path / "gone.yaml")
    assert code == "policy-missing"
    assert "gone.yaml" in reason
    with pytest.raises(PolicyError, match="policy-missing"):
        Policy.read(tmp_path / "gone.yaml", SCORES)


@pytest.mark.parametrize(
    "content", [b"", b"[1, 2]", b"epsilon: [", b"\xff\xfe\xfa", b"epsilon: 1\nepsilon: 2", b"\x00"]
)
def test_a_file_that_is_no_policy_opens_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    code, reason = code_of(path)
    assert code == "policy-unreadable"
    assert str(path) in reason


def test_a_path_that_cannot_be_opened_opens_nothing(tmp_path: Path) -> None:
    assert code_of(tmp_path)[0] == "policy-unreadable"  # a folder
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert code_of(tmp_path / "loop")[0] == "policy-unreadable"


def test_a_file_without_permission_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)  # root, as in a container, may read all files
    code, reason = code_of(tmp_path / "policy.yaml")
    assert code == "policy-unreadable"
    assert "Permission denied" in reason


def test_one_bad_value_opens_nothing_and_its_key_reaches_the_log(tmp_path: Path) -> None:
    code, reason = code_of(write(tmp_path, STRICT, epsilon=-1.0))
    assert code == "policy-unreadable"
    assert "epsilon: -1.0 is refused" in reason


# ------------------------------------------------------------------------- the examples


def comments(path: Path) -> dict[str, str]:
    """Each key's comment: on its line and on the lines of comment alone below it."""
    found: dict[str, str] = {}
    key = ""
    for line in path.read_text().splitlines():
        start = re.match(r"(\w+):[^#]*", line)
        key = start[1] if start else key if line.startswith(" ") else ""
        if key:
            found[key] = found.get(key, "") + line.partition("#")[2]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_key_is_explained_in_the_order_of_the_class(name: str) -> None:
    found = comments(EXAMPLES[name])
    assert list(found) == KEYS
    assert not [key for key, text in found.items() if len(text.split()) < 5]


@pytest.mark.parametrize("name", EXAMPLES)
def test_lines_are_narrow_enough_to_print(name: str) -> None:
    assert max(map(len, EXAMPLES[name].read_text().splitlines())) <= 104


def at_the_limits(policy: Policy) -> Asked:
    seat, noise, clip = policy.hospital or "any", policy.noise_multiplier, policy.clip
    limits = (policy.rounds, 1, policy.tasks, policy.steps, noise, clip)
    return Asked("train", seat, policy.mechanisms[0], policy.units[0], *limits)


@pytest.mark.parametrize("policy", [STRICT, RESEARCH], ids=["strict", "research"])
def test_an_example_admits_a_run_at_its_limits_and_no_step_beyond(policy: Policy) -> None:
    asked = at_the_limits(policy)
    policy.admit(asked)
    for key in ("steps", "tasks", "rounds", "clip"):
        with pytest.raises(PolicyError, match=key):
            policy.admit(replace(asked, **{key: asdict(asked)[key] + 1}))
    with pytest.raises(PolicyError, match="policy-mechanism"):
        policy.admit(replace(asked, mechanism="none"))
    for unit in ("none", "hospital"):
        with pytest.raises(PolicyError, match="policy-unit"):
            policy.admit(replace(asked, unit=unit))


def test_strict_refuses_every_secret_draw_and_research_a_small_one() -> None:
    for policy, rate in ((STRICT, 0.999), (RESEARCH, 0.009)):
        with pytest.raises(PolicyError, match="policy-sampling"):
            policy.admit(replace(at_the_limits(policy), sampling_rate=rate))
    RESEARCH.admit(replace(at_the_limits(RESEARCH), sampling_rate=0.01))


def test_strict_refuses_every_request_until_its_name_is_edited() -> None:
    with pytest.raises(PolicyError, match="policy-hospital"):
        STRICT.admit(replace(at_the_limits(STRICT), hospital="north"))


def test_strict_sends_no_scores_and_research_does() -> None:
    asked = Asked("evaluate", "my-hospital", "sums", "patient", 10, 0, 100, metrics=("accuracy",))
    RESEARCH.admit(asked)
    with pytest.raises(PolicyError, match="policy-purpose"):
        STRICT.admit(asked)


@pytest.mark.parametrize("policy", [STRICT, RESEARCH], ids=["strict", "research"])
def test_no_example_lets_the_loss_out(policy: Policy) -> None:
    with pytest.raises(PolicyError, match="policy-metric"):
        policy.admit(replace(at_the_limits(policy), metrics=("loss",)))


@pytest.mark.parametrize("name", ["strict", "research"])
def test_the_figures_in_the_comments_are_right(name: str) -> None:
    """Who guesses at even odds under mu-GDP is right with probability Phi(mu/2) at best; one sum
    at the floor has mu = 1 / noise_multiplier (Dong, Roth, Su 2019). Written out here anew."""
    policy, said = Policy.read(EXAMPLES[name], SCORES), comments(EXAMPLES[name])
    assert policy.epsilon is not None
    assert policy.noise_multiplier is not None
    assert policy.delta is not None
    share = said_number(said["epsilon"], r"right ([\d.]+) %")
    assert 100 * phi(mu_at(policy.epsilon, policy.delta) / 2) == pytest.approx(share, abs=0.051)
    one = said_number(said["noise_multiplier"], r"epsilon ([\d.]+)")
    assert delta_at(one, 1 / policy.noise_multiplier) == pytest.approx(policy.delta, rel=0.05)


def said_number(text: str, pattern: str) -> float:
    found = re.search(pattern, " ".join(text.split()))
    assert found is not None
    return float(found[1])


def phi(x: float) -> float:
    return erfc(-x / sqrt(2)) / 2


def delta_at(epsilon: float, mu: float) -> float:
    return phi(mu / 2 - epsilon / mu) - exp(epsilon) * phi(-mu / 2 - epsilon / mu)


def mu_at(epsilon: float, delta: float) -> float:
    low, high = 1e-3, 20.0
    for _ in range(100):
        mid = (low + high) / 2
        low, high = (mid, high) if delta_at(epsilon, mid) < delta else (low, mid)
    return low
