"""Handwritten characters, the few-shot benchmark: an alphabet is a client, a character is a class.

Lake, Salakhutdinov and Tenenbaum (2015, "Human-level concept learning through probabilistic
program induction", Science 350): 1623 characters of 50 alphabets, each drawn once by 20 people;
https://github.com/brendenlake/omniglot, MIT licence. Two splits:

- ``alphabets``: the split of the authors. The 30 background alphabets meta-train, the 20 evaluation
  alphabets stay unseen.
- ``published``: the split of Santoro et al. (2016, "Meta-learning with memory-augmented neural
  networks") and Finn et al. (2017, "Model-agnostic meta-learning for fast adaptation of deep
  networks"), whose accuracies are the usual reference. All characters are shuffled: 1200 train,
  each at its alphabet's client, and 423 are tested across alphabets, at one client ``held-out``.

The file ``omniglot/omniglot28.npz`` holds ``images`` (1623, 20, 28, 28) uint8, the drawings scaled
down with smoothing, ink 0 on background 255; ``names`` (1623,) as alphabet/character; and
``is_evaluation`` (1623,) uint8. Alphabets come in the authors' order, background set first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metaward.client.tasks.base import (
    ROLES,
    FewShot,
    FloatArray,
    Hospital,
    IntArray,
    Seat,
    Stored,
    TaskSpec,
    draw_classes,
    usable_classes,
)
from metaward.client.tasks.files import DataFile, Layout, Stamp, frozen, stamp
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.preparation import Preparation, Step
from metaward.client.tasks.roster import check_set_aside, set_aside

# Alphabet: number of characters, in the authors' order; the first 30 are the background set.
_COUNTS = """
Alphabet_of_the_Magi:20 Anglo-Saxon_Futhorc:29 Arcadian:26 Armenian:41 Asomtavruli_(Georgian):40
Balinese:24 Bengali:46 Blackfoot_(Canadian_Aboriginal_Syllabics):14 Braille:26 Burmese_(Myanmar):34
Cyrillic:33 Early_Aramaic:22 Futurama:26 Grantha:43 Greek:24 Gujarati:48 Hebrew:22
Inuktitut_(Canadian_Aboriginal_Syllabics):16 Japanese_(hiragana):52 Japanese_(katakana):47
Korean:40 Latin:26 Malay_(Jawi_-_Arabic):40 Mkhedruli_(Georgian):41 N_Ko:33
Ojibwe_(Canadian_Aboriginal_Syllabics):14 Sanskrit:42 Syriac_(Estrangelo):23 Tagalog:17 Tifinagh:55
Angelic:20 Atemayar_Qelisayer:26 Atlantean:26 Aurek-Besh:26 Avesta:26 Ge_ez:26 Glagolitic:45
Gurmukhi:45 Kannada:41 Keble:26 Malayalam:47 Manipuri:40 Mongolian:30
Old_Church_Slavonic_(Cyrillic):45 Oriya:46 Sylheti:28 Syriac_(Serto):23 Tengwar:25 Tibetan:42
ULOG:26
"""
ALPHABETS = {
    name: int(count) for name, count in (entry.rsplit(":", 1) for entry in _COUNTS.split())
}
BACKGROUND = 30
CHARACTERS = sum(ALPHABETS.values())
DRAWINGS, SIDE, TURNS = 20, 28, 4
PUBLISHED_TRAIN = 1200
ALPHABET_OF = np.repeat(np.arange(len(ALPHABETS)), list(ALPHABETS.values()))

FILE = DataFile(
    "omniglot/omniglot28.npz",
    "made from https://github.com/brendenlake/omniglot in the layout of client/tasks/omniglot.py",
)
LAYOUTS = {
    "images": Layout((CHARACTERS, DRAWINGS, SIDE, SIDE), "u1"),
    "names": Layout((CHARACTERS,), "U"),
    "is_evaluation": Layout((CHARACTERS,), "u1"),
}


@dataclass(frozen=True)
class Omniglot(FewShot):
    """N-way K-shot character recognition; every character has 20 drawings.

    Only training characters are rotated. A rotated drawing is no new record: it keeps the id of the
    drawing it shows, and its person; as in the published protocol, one task can hold a character
    and its rotated copy as two classes.

    Two drawings are equal, the third and the nineteenth of Braille's first character; the ledger
    knows both by one content, which pays for both.

    ``patients`` are the people who drew, 20 per alphabet. The published split draws the held-out
    characters from the alphabets that train, so there the same people are on both sides.
    """

    ways: Annotated[int, Field(ge=2, le=1000)] = 5
    """N, the classes of a task."""
    shots: Annotated[int, Field(ge=1, le=DRAWINGS - 1)] = 1
    """K, the support drawings of each class."""
    queries: Annotated[int, Field(ge=1, le=DRAWINGS - 1)] = 5
    """The query drawings of each class."""
    canonical: Literal[False] = False
    """Each task numbers its classes on its own."""
    split: Literal["alphabets", "published"] = "alphabets"
    """`alphabets`: the background alphabets train. `published`: 1200 characters train and 423 are
    held out."""
    hospitals: Annotated[int, Field(ge=1, le=len(ALPHABETS))] | None = None
    """How many of the training alphabets take part, from the first on; null: all."""
    unseen: Annotated[int, Field(ge=0, le=len(ALPHABETS) - BACKGROUND)] | None = None
    """How many of the held-out alphabets take part, from the first on; null: all."""
    validation: Annotated[int, Field(ge=0, le=len(ALPHABETS) - 1)] = 0
    """How many of the training alphabets that take part, the last ones, are set aside to choose
    among the rounds instead of training."""
    rotations: bool = False
    """Whether every training character gives three more classes, rotated by 90, 180 and 270
    degrees."""
    deal: Annotated[int, Field(ge=0)] = 0
    """The seed of the published split's shuffle; public, and independent of the run's seed."""

    preparation = Preparation(
        Step("not used", "Grey values become 0 to 1 by a constant, not by statistics."),
        Step(
            "no",
            "Drawings were scaled down beforehand. That the file passes its checks counts as "
            "public.",
        ),
        "Omniglot, under the MIT licence.",
    )

    def __post_init__(self) -> None:
        largest = max(sum(self.sizes(role)) for role in ROLES)
        if largest > DRAWINGS:
            raise ValueError(
                f"shots + queries = {largest}: a character has {DRAWINGS} "
                "drawings; lower client.tasks.shots or queries"
            )
        if self.split == "alphabets" and (self.hospitals or 1) > BACKGROUND:
            raise ValueError(f"hospitals = {self.hospitals}: split alphabets has 1 to {BACKGROUND}")
        if self.split == "published" and self.unseen not in (None, 0, 1):
            raise ValueError(f"unseen = {self.unseen}: split published has one unseen hospital")
        check_set_aside(self.validation, self.hospitals or self._alphabets)
        if small := self._too_small():
            raise ValueError(
                f"ways = {self.ways}: too few characters in {', '.join(small[:3])} and "
                f"{len(small[3:])} more; lower ways, or set rotations: true if all of them train"
            )

    def roster(self) -> tuple[Seat, ...]:
        """Training alphabets, the last of which may be set aside, then unseen ones (or the one
        hospital ``held-out``)."""
        return tuple(client.seat for client in _plan(self))

    def spec(self) -> TaskSpec:
        """28 x 28 pixels; the vocabulary counts training characters and their rotated copies."""
        train = sum(len(c.characters) for c in _plan(self) if c.seat.role == "train")
        vocabulary = train * self.turns
        return TaskSpec(CLASSIFICATION, (1, SIDE, SIDE), self.ways, vocabulary, canonical=False)

    @property
    def turns(self) -> int:
        """How many classes a training character gives, rotated copies included."""
        return TURNS if self.rotations else 1

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Open one alphabet."""
        client, path = _plan(self)[index], FILE.locate(root)
        images = _read(path, stamp(path))
        views = _views(self)
        rows = np.flatnonzero(np.isin(views.character, client.characters) & (views.y >= 0))
        hospital = Hospital(
            seat=client.seat,
            x=views.x,
            y=views.y,
            rows=rows,
            ids=views.drawing,
            patients=views.person,
            draw=partial(draw_classes, self),
            view=partial(render, images),
            stored=Stored(images, views.drawing),
            note={
                "characters": str(len(client.characters)),
                "drawings": str(len(client.characters) * DRAWINGS),
            },
        )
        usable_classes(self, hospital)
        return hospital

    @property
    def _alphabets(self) -> int:
        """How many alphabets the split can train on."""
        return BACKGROUND if self.split == "alphabets" else len(ALPHABETS)

    def _too_small(self) -> list[str]:
        """Names of the hospitals that hold fewer classes than ``ways``."""

        def classes(client: SeatCharacters) -> int:
            return len(client.characters) * (1 if client.seat.judges else self.turns)

        return [client.seat.name for client in _plan(self) if classes(client) < self.ways]


class SeatCharacters(NamedTuple):
    """A seat and the characters it holds, as indices into the file."""

    seat: Seat
    characters: IntArray


class Views(NamedTuple):
    """All drawings in all rotations, (129840,) each: row = 4 x drawing + quarter turns.

    ``x`` is the row itself, so that a picture is rotated on use and never stored twice; ``y`` is
    the class index, -1 where the options leave a row out.
    """

    x: IntArray
    y: IntArray
    character: IntArray
    drawing: IntArray
    person: IntArray


@lru_cache(maxsize=16)
def _plan(source: Omniglot) -> tuple[SeatCharacters, ...]:
    """The seats of the federation with their characters."""
    train, unseen = _sides(source)
    names = list(ALPHABETS)[: source._alphabets][: source.hospitals]
    trained = set_aside([Seat(name, "train") for name in names], source.validation)
    clients = [
        SeatCharacters(seat, train[ALPHABET_OF[train] == a]) for a, seat in enumerate(trained)
    ]
    if source.split == "published":
        return (*clients, *[SeatCharacters(Seat("held-out", "unseen"), unseen)][: source.unseen])
    evaluation = list(enumerate(ALPHABETS))[BACKGROUND:][: source.unseen]
    return (
        *clients,
        *(
            SeatCharacters(Seat(n, "unseen"), unseen[ALPHABET_OF[unseen] == a])
            for a, n in evaluation
        ),
    )


def _sides(source: Omniglot) -> tuple[IntArray, IntArray]:
    """Characters of the training side, of which some may be set aside, and unseen ones, each in
    the file's order."""
    if source.split == "alphabets":
        border = int(np.searchsorted(ALPHABET_OF, BACKGROUND))
        return np.arange(border), np.arange(border, CHARACTERS)
    order = np.random.default_rng([source.deal]).permutation(CHARACTERS)
    return np.sort(order[:PUBLISHED_TRAIN]), np.sort(order[PUBLISHED_TRAIN:])


@lru_cache(maxsize=4)
def _views(source: Omniglot) -> Views:
    """Number the classes: upright training characters, rotated ones, then all others."""
    clients, nobody = _plan(source), [np.empty(0, dtype=np.int64)]
    train = np.concatenate([c.characters for c in clients if c.seat.role == "train"])
    held = [c.characters for c in clients if c.seat.judges]
    others = np.concatenate(held or nobody)
    number = np.full((CHARACTERS, TURNS), -1)
    for turn in range(source.turns):
        number[train, turn] = turn * len(train) + np.arange(len(train))
    number[others, 0] = source.turns * len(train) + np.arange(len(others))
    x = np.arange(CHARACTERS * DRAWINGS * TURNS)
    drawing = x // TURNS
    character = drawing // DRAWINGS
    person = ALPHABET_OF[character] * DRAWINGS + drawing % DRAWINGS
    arrays = (x, number[character, x % TURNS], character, drawing, person)
    return Views(*(frozen(array) for array in arrays))


def render(images: NDArray[np.uint8], views: NDArray[Any]) -> FloatArray:
    """Rows of ``Views`` (k,) -> pictures (k, 1, 28, 28) float32, ink 1 and background 0."""
    ink: FloatArray = 1 - images[views // TURNS].astype(np.float32) / 255
    for turn in range(1, TURNS):
        turned = views % TURNS == turn
        ink[turned] = np.rot90(ink[turned], turn, axes=(1, 2))
    return ink[:, None]


@lru_cache(maxsize=2)
def _read(path: Path, stamp: Stamp) -> NDArray[np.uint8]:
    """The checked drawings (32460, 28, 28) uint8, in the file's order."""
    arrays = FILE.read_npz(path, LAYOUTS)
    actual = [name.split("/")[0] for name in arrays["names"].tolist()]
    expected = np.array(list(ALPHABETS))[ALPHABET_OF].tolist()
    if actual != expected:
        row = next(
            i for i, pair in enumerate(zip(actual, expected, strict=True)) if len({*pair}) > 1
        )
        what = f"character {row} is of {actual[row]}, but {expected[row]} should be there"
        raise FILE.damaged(path, what)
    if (arrays["is_evaluation"] != (ALPHABET_OF >= BACKGROUND)).any():
        raise FILE.damaged(path, "is_evaluation is not 0 for the first 30 alphabets, then 1")
    if len(set(arrays["names"].tolist())) != CHARACTERS:
        raise FILE.damaged(path, "it holds a character twice")
    if arrays["images"].mean() < 128:
        raise FILE.damaged(path, "its images are inverted: ink must be 0 on background 255")
    return arrays["images"].reshape(-1, SIDE, SIDE)
