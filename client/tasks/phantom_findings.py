"""Phantom findings: what a radiologist would name, drawn at a random place of the organ.

Every function gets n lesions and returns a signed change of brightness (n, 28, 28), about within
[-1, 1]; the caller scales it by each lesion's contrast. Place, size, direction and outline are
drawn for every image, so that a finding is recognised by its shape and never by a fixed pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metaward.client.tasks.base import FloatArray
from metaward.client.tasks.phantom_anatomy import PIXEL, Body, Ellipse, line, step

TILT = 1.2  # radians by which gravity can differ from straight down in an image


@dataclass(frozen=True)
class Spot:
    """The places of n lesions, all (n, 28, 28): coordinates about the lesion and within the organ.

    ``u``, ``v`` are turned and centred on the lesion, with ``distance`` and ``angle`` their polar
    form; ``rho`` is 0 in the middle of the organ and 1 on its outline, ``bearing`` in (-pi, pi] is
    the direction from the middle, 0 towards a random side; ``depth`` (organ half-heights) grows in
    the direction of gravity: the patient stands, or lies on a side.
    """

    u: FloatArray
    v: FloatArray
    distance: FloatArray
    angle: FloatArray
    rho: FloatArray
    bearing: FloatArray
    depth: FloatArray
    rng: np.random.Generator

    def vary(self, low: float, high: float) -> FloatArray:
        """One uniform number for each lesion: (n, 1, 1)."""
        drawn = self.rng.uniform(low, high, size=(len(self.u), 1, 1))
        return drawn.astype(np.float32)

    def spots(self, count: int, spread: float, low: float, high: float) -> FloatArray:
        """The union of up to ``count`` discs scattered about the site, radii in [low, high]."""
        union = np.zeros_like(self.u)
        for _ in range(count):
            turn, far = self.vary(0, 2 * np.pi), spread * np.sqrt(self.vary(0, 1))
            away = np.hypot(self.u - far * np.cos(turn), self.v - far * np.sin(turn))
            np.maximum(union, step(away - self.vary(low, high)), out=union)
        return union


def place(body: Body, organ: Ellipse, chosen: slice | np.ndarray) -> Spot:
    """Draw a place within the organ for a lesion of each chosen image."""
    rng, organ = body.rng, Ellipse(*(part[chosen] for part in organ))
    n = len(organ.x)
    far, towards, turn, side, tilt = rng.random((5, n, 1, 1), dtype=np.float32)
    far, towards, turn = 0.7 * np.sqrt(far), 2 * np.pi * towards, 2 * np.pi * turn
    tilt = TILT * (2 * tilt - 1)
    across = (body.x[chosen] - organ.x) / organ.width
    height = (body.y[chosen] - organ.y) / organ.height
    dx = (across - far * np.cos(towards)) * organ.width
    dy = (height - far * np.sin(towards)) * organ.height
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    bearing = np.angle(np.exp(1j * (np.arctan2(height, across) - 2 * np.pi * side)))
    return Spot(
        u=u,
        v=v,
        distance=np.hypot(u, v),
        angle=np.arctan2(v, u),
        rho=np.hypot(across, height),
        bearing=bearing.astype(np.float32),
        depth=np.cos(tilt) * height + np.sin(tilt) * across,
        rng=rng,
    )


def sickle(s: Spot, most: FloatArray, half: FloatArray) -> FloatArray:
    """Thickness in organ radii, ``most`` at bearing 0 and nothing beyond ``half`` radians."""
    thick: FloatArray = most * np.clip(1 - np.square(s.bearing / half), 0, 1)
    return thick


def crescent(s: Spot, thick: FloatArray) -> FloatArray:
    """1 within ``thick`` of the organ's outline, on its inner side."""
    return step(s.rho - 1.05) * step((1.0 - thick - s.rho) * 0.5) * (thick > 0)


def nodule(s: Spot) -> FloatArray:
    """A small bright ball."""
    return step(s.distance - s.vary(0.13, 0.24))


def cavity(s: Spot) -> FloatArray:
    """A bright ring about a dark middle."""
    size = s.vary(0.22, 0.36)
    return line(s.distance - size, 0.09) - 0.6 * step(s.distance - size + 0.1)


def effusion(s: Spot) -> FloatArray:
    """Bright fluid that has settled at the bottom of the organ, its surface a meniscus."""
    level = s.vary(0.25, 0.65) - 0.25 * s.rho**2
    return 0.8 * step(s.rho - 1.05) * step((level - s.depth) * 0.5)


def mass(s: Spot) -> FloatArray:
    """A large bright lump with a lobed outline."""
    lobes = 1 + 0.18 * np.sin(np.floor(s.vary(4, 7)) * s.angle + s.vary(0, 6))
    return 0.8 * step(s.distance - s.vary(0.32, 0.46) * lobes, 0.16)


def infarct(s: Spot) -> FloatArray:
    """A dark wedge with its base on the outline of the organ."""
    across = (np.abs(s.bearing) - s.vary(0.3, 0.5)) * s.rho * 0.5
    return -0.8 * step(across) * step(s.rho - 1.05) * step(s.vary(0.15, 0.35) - s.rho)


def fracture(s: Spot) -> FloatArray:
    """A dark jagged crack with one bright lip."""
    jag = 0.06 * np.abs((s.u * s.vary(2.5, 4) + s.vary(0, 1)) % 1 - 0.5) * 4
    within = step(np.abs(s.u) - s.vary(0.45, 0.7))
    return (0.5 * line(s.v - jag - 1.6 * PIXEL, 0.08) - line(s.v - jag, 0.08)) * within


def cyst(s: Spot) -> FloatArray:
    """A dark ball with a sharp edge."""
    return -0.9 * step(s.distance - s.vary(0.17, 0.33))


def consolidation(s: Spot) -> FloatArray:
    """A bright cloud without an edge, mottled inside."""
    cloud: FloatArray = np.exp(-((s.u / s.vary(0.3, 0.45)) ** 2) - (s.v / s.vary(0.2, 0.35)) ** 2)
    mottle = s.rng.standard_normal(s.u.shape, dtype=np.float32)
    return cloud * (0.6 + 0.45 * mottle)


def emphysema(s: Spot) -> FloatArray:
    """A handful of dark bubbles."""
    return -0.85 * s.spots(6, 0.5, 0.08, 0.15)


def haemorrhage(s: Spot) -> FloatArray:
    """A bright crescent along the outline of the organ."""
    return crescent(s, sickle(s, s.vary(0.25, 0.4), s.vary(0.9, 1.4)))


def catheter(s: Spot) -> FloatArray:
    """A thin bright tube, nearly straight, with a knob at its tip."""
    bend = s.v - s.vary(-0.5, 0.5) * s.u**2
    length = s.vary(0.5, 0.8)
    tip = step(np.hypot(s.u - length, bend) - 0.1)
    tube: FloatArray = np.maximum(line(bend, 0.07) * step(np.abs(s.u) - length), tip)
    return tube


def calcifications(s: Spot) -> FloatArray:
    """A cluster of tiny bright grains."""
    return 1.2 * s.spots(9, 0.4, 0.04, 0.07)


def collapse(s: Spot) -> FloatArray:
    """A dark crescent behind a thin bright line: air between the organ and its wall."""
    thick = sickle(s, s.vary(0.3, 0.45), s.vary(1.0, 1.5))
    rim = line((s.rho - 1.0 + thick) * 0.5, 0.06) * (thick > 0.05)
    return 0.7 * rim - crescent(s, thick)


def spicule(s: Spot) -> FloatArray:
    """A small bright core with spikes all round."""
    spikes = np.clip(np.cos(np.floor(s.vary(5, 8)) * s.angle + s.vary(0, 6)), 0, 1) ** 3
    reach = np.clip(1 - s.distance / s.vary(0.45, 0.65), 0, 1)
    star: FloatArray = np.maximum(step(s.distance - 0.11), 1.1 * spikes * np.sqrt(reach))
    return star


def fibrosis(s: Spot) -> FloatArray:
    """A patch of bright net."""
    pitch = s.vary(12, 17)
    net: FloatArray = np.clip(np.maximum(np.sin(pitch * s.u), np.sin(pitch * s.v)), 0, 1)
    return 0.9 * (net - 0.4) * step(s.distance - s.vary(0.4, 0.55), 0.2)


def malformation(s: Spot) -> FloatArray:
    """A bright winding vessel."""
    wave = s.vary(0.12, 0.2) * np.sin(s.vary(7, 10) * s.u + s.vary(0, 6))
    return line(s.v - wave, 0.1) * step(np.abs(s.u) - s.vary(0.45, 0.65))


# The order is part of the data: the first ``findings`` entries are the known classes 0, 1, ...,
# only unseen hospitals hold the last ``novel`` ones.
FINDINGS: dict[str, Callable[[Spot], FloatArray]] = {
    "nodule": nodule,
    "mass": mass,
    "cyst": cyst,
    "fracture": fracture,
    "consolidation": consolidation,
    "haemorrhage": haemorrhage,
    "catheter": catheter,
    "calcifications": calcifications,
    "collapse": collapse,
    "spicule": spicule,
    "fibrosis": fibrosis,
    "cavity": cavity,
    "effusion": effusion,
    "infarct": infarct,
    "emphysema": emphysema,
    "malformation": malformation,
}
