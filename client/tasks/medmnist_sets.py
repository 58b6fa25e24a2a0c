"""What is public about the sets of MedMNIST, from the ``medmnist`` package: classes, forms, sizes.

The package is imported on first use, because that takes seconds and only this source needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from metaward.client.tasks.phantom_anatomy import MODALITIES
from metaward.client.tasks.phantom_findings import FINDINGS

Size = Literal[28, 64, 128, 224]
How = Literal["mean", "max", "none"]

SIDE: Size = 28
SIZES: tuple[Size, ...] = (28, 64, 128, 224)
PHANTOMS = tuple(f"phantom{modality}" for modality in MODALITIES)


@dataclass(frozen=True)
class Facts:
    """What is public about a data set.

    ``findings`` are the names of its labels, ``channels`` 1 for grey and 3 for colours, ``sizes``
    the published numbers of pixels along each axis; ``volumes`` says whether it is 3-D, and
    ``several`` whether an image may show several findings at once.
    """

    flag: str
    findings: tuple[str, ...]
    channels: int
    volumes: bool
    sizes: tuple[Size, ...]
    several: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of its classes: the findings; where an image may show several of them, "no" and
        "yes" to each finding, numbered 2 f and 2 f + 1."""
        if not self.several:
            return self.findings
        return tuple(name for finding in self.findings for name in (f"no {finding}", finding))

    @property
    def counted_as(self) -> tuple[str, ...]:
        """What each class stands for in a case mix, where a record has one class alone."""
        return ("no finding", *self.classes[1:]) if self.several else self.classes

    @property
    def columns(self) -> int:
        """Labels of a record in the file: one, or a yes or no to each finding."""
        return len(self.findings) if self.several else 1

    @property
    def highest(self) -> int:
        """The highest label in the file."""
        return 1 if self.several else len(self.findings) - 1

    def space(self, how: How) -> int:
        """Axes of space that the network sees: 3 for volumes that are not projected, else 2."""
        return 3 if self.volumes and how == "none" else 2

    def stored_shape(self, size: Size) -> tuple[int, ...]:
        """The shape of a record in the file."""
        return (size,) * (3 if self.volumes else 2) + ((3,) if self.channels == 3 else ())


def facts(flag: str) -> Facts:
    """Public facts of a data set; ``ValueError`` for an unknown one, with the way out."""
    if flag in PHANTOMS:
        return Facts(flag, tuple(FINDINGS), 1, volumes=False, sizes=(SIDE,), several=False)
    known = [name for name in info() if name not in PHANTOMS]
    if flag not in known:
        raise ValueError(_unknown(flag, [*known, *PHANTOMS]))
    entry = info()[flag]
    return Facts(
        flag,
        tuple(entry["label"][str(i)] for i in range(len(entry["label"]))),
        entry["n_channels"],
        volumes=flag.endswith("3d"),
        sizes=tuple(size for size in SIZES if f"MD5{suffix(size)}" in entry),
        several="multi-label" in entry["task"],
    )


def _unknown(flag: str, known: Sequence[str]) -> str:
    """The words for a name that no set has."""
    for size in SIZES:
        name = flag.removesuffix(".npz").removesuffix(f"_{size}")
        if name in known:
            return f"datasets: {flag} is a file; name {name} and set client.tasks.size: {size}"
    near = get_close_matches(flag, known, 1, cutoff=0.9)
    return (
        f"datasets: {flag} is unknown{f' (did you mean {near[0]}?)' if near else ''}; allowed are "
        f"{', '.join(known)}; records of your own, also in files of this layout, are read by "
        "client.tasks.source: folder (docs/own-data.md)"
    )


def check_forms(sets: Sequence[Facts], size: Size, how: How, channels: int | None) -> None:
    """``ValueError`` where these sets do not come in this size, or not in one form of input."""
    for one in sets:
        if size not in one.sizes:
            have = " or ".join(map(str, one.sizes))
            raise ValueError(f"size = {size}: {one.flag} has {have} pixels along each axis")
    space = {one.flag: one.space(how) for one in sets}
    if len(set(space.values())) > 1:
        raise ValueError(
            f"projection = none: datasets with axes of space {space}; no network takes images and "
            "volumes, so set projection to mean or max, or name sets of one kind"
        )
    colours = {one.flag: one.channels for one in sets}
    if channels is None and len(set(colours.values())) > 1:
        raise ValueError(
            f"datasets with channels {colours}: set channels to 1 or 3 (1: colours become grey; 3: "
            "grey images become three equal channels)"
        )


def suffix(size: Size) -> str:
    """What the package appends to names of files and entries for another size than 28."""
    return "" if size == SIDE else f"_{size}"


def info() -> dict[str, dict[str, Any]]:
    """The package's own entries, by flag."""
    from medmnist import INFO

    return INFO  # type: ignore[no-any-return]
