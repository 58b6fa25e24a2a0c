"""Phantom patients: 28 x 28 grey-scale anatomy, one drawing function for each modality.

The pictures are made up, in the spirit of the head phantom of Shepp and Logan (1974), "The Fourier
reconstruction of a head section": sums of soft-edged ellipses and lines whose sizes differ from
patient to patient. Everything is drawn for n images at once; body coordinates run over [-1, 1],
x to the right and y downwards, so that a pixel is 2 / 28 wide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metaward.client.tasks.base import FloatArray, IntArray

SIDE = 28
PIXEL = 2 / SIDE


class Ellipse(NamedTuple):
    """An upright ellipse for each image: centre and half-axes, each (n, 1, 1)."""

    x: FloatArray
    y: FloatArray
    width: FloatArray
    height: FloatArray


@dataclass(frozen=True)
class Body:
    """What n images show: ``x``, ``y`` (n, 28, 28) body coordinates, ``who`` (n,) the patient.

    Images of one patient share all that ``vary`` draws and differ by their pose only.
    """

    x: FloatArray
    y: FloatArray
    who: IntArray
    rng: np.random.Generator

    def vary(self, low: float, high: float) -> FloatArray:
        """One uniform number per patient, the same in all of the patient's images: (n, 1, 1)."""
        drawn = self.rng.uniform(low, high, size=int(self.who.max()) + 1)
        return drawn[self.who].astype(np.float32)[:, None, None]

    def radius(self, e: Ellipse) -> FloatArray:
        """Distance from the ellipse's centre, 1 on its outline: (n, 28, 28)."""
        radius: FloatArray = np.hypot((self.x - e.x) / e.width, (self.y - e.y) / e.height)
        return radius

    def inside(self, e: Ellipse) -> FloatArray:
        """1 inside the ellipse, 0 outside, with an edge about one pixel wide: (n, 28, 28)."""
        return step((self.radius(e) - 1) * np.minimum(e.width, e.height))

    def texture(self, frequency: float) -> FloatArray:
        """Smooth parenchyma: four random waves per patient, about mean 0 and deviation 0.7."""
        total = np.zeros_like(self.x)
        for _ in range(4):
            turn, phase = self.vary(0, np.pi), self.vary(0, 2 * np.pi)
            pitch = self.vary(0.6 * frequency, 1.4 * frequency)
            total += np.sin(pitch * (np.cos(turn) * self.x + np.sin(turn) * self.y) + phase)
        return np.float32(0.5) * total

    def at(self, x: float, y: float, width: float, height: float, slack: float) -> Ellipse:
        """An ellipse whose place (by 0.3 slack) and size (by slack) vary among patients."""
        near = 0.3 * slack
        return Ellipse(
            x + self.vary(-near, near),
            y + self.vary(-near, near),
            width * self.vary(1 - slack, 1 + slack),
            height * self.vary(1 - slack, 1 + slack),
        )


def step(distance: FloatArray, edge: float = 1.5 * PIXEL) -> FloatArray:
    """1 where the signed distance is negative, 0 where positive, a ramp ``edge`` wide between."""
    ramp: FloatArray = np.clip(np.float32(0.5) - distance / np.float32(edge), 0, 1)
    return ramp


def line(distance: FloatArray, width: float = 1.2 * PIXEL) -> FloatArray:
    """A ridge of height 1 along distance 0 that falls off within ``width``."""
    ridge: FloatArray = np.exp(-np.square(distance / np.float32(width)))
    return ridge


def pose(rng: np.random.Generator, who: IntArray) -> Body:
    """The bodies in n images: each is rotated, scaled and shifted a little, independently."""
    axis = ((np.arange(SIDE) + 0.5) * PIXEL - 1).astype(np.float32)
    draw = rng.uniform([-0.15, 0.88, -0.1, -0.1], [0.15, 1.12, 0.1, 0.1], size=(len(who), 4))
    turn, scale, right, down = draw.astype(np.float32).T[:, :, None, None]
    x, y = (axis[None, None, :] - right) / scale, (axis[None, :, None] - down) / scale
    cos, sin = np.cos(turn), np.sin(turn)
    return Body(cos * x + sin * y, cos * y - sin * x, who, rng)


Scene = tuple[FloatArray, Ellipse]


def ct(body: Body) -> Scene:
    """An abdominal slice: liver, spleen, spine and gut gas; findings lie in the trunk."""
    trunk = body.at(0, 0, 0.88, 0.7, 0.08)
    image = (0.42 + 0.05 * body.texture(9)) * body.inside(trunk)
    image += 0.12 * line((body.radius(trunk) - 0.93) * 0.7)
    image += 0.16 * body.inside(body.at(-0.38, -0.1, 0.38, 0.42, 0.2))
    image += 0.12 * body.inside(body.at(0.5, 0.02, 0.2, 0.28, 0.25))
    image += 0.45 * body.inside(body.at(0, 0.42, 0.14, 0.15, 0.2))
    image += 0.2 * body.inside(body.at(0.12, 0.2, 0.09, 0.09, 0.2))
    for _ in range(2):
        gas = body.at(0.15, -0.35, 0.13, 0.08, 0.4)
        image -= 0.3 * body.inside(gas._replace(x=gas.x + body.vary(-0.25, 0.25)))
    return image, Ellipse(trunk.x, trunk.y, 0.72 * trunk.width, 0.72 * trunk.height)


def xray(body: Body) -> Scene:
    """A chest from the front: lungs, ribs, heart, spine; findings lie in one lung."""
    chest = body.at(0, 0.25, 1.0, 1.2, 0.03)
    image = (0.55 + 0.04 * body.texture(6)) * body.inside(chest)
    left, right = body.at(-0.46, -0.05, 0.41, 0.64, 0.08), body.at(0.46, -0.05, 0.41, 0.64, 0.08)
    lungs = np.maximum(body.inside(left), body.inside(right))
    image -= (0.27 + body.vary(-0.04, 0.04)) * lungs
    arch = body.y - body.vary(0.2, 0.5) * np.abs(body.x) ** 2 + body.vary(0, 1)
    ribs = np.sin(arch * body.vary(17, 22)).astype(np.float32)
    image += 0.08 * np.clip(ribs, 0, 1) * body.inside(chest)
    image += 0.2 * body.inside(body.at(0.12, 0.3, 0.3, 0.28, 0.2))
    image += 0.15 * line(body.x, 0.12)
    side = body.rng.random((len(body.who), 1, 1)) < 0.5
    return image, Ellipse(*(np.where(side, a, b) for a, b in zip(left, right, strict=True)))


def mri(body: Body) -> Scene:
    """A brain slice: scalp, folded cortex, ventricles; findings lie in the brain."""
    head = body.at(0, 0, 0.78, 0.92, 0.07)
    radius = body.radius(head)
    image = 0.65 * line((radius - 0.97) * 0.8, 0.06)
    brain = step((radius - 0.86) * 0.8)
    folds = np.sin(body.vary(9, 14) * np.arctan2(body.y, body.x) + 3 * body.texture(5))
    cortex = np.clip((radius - 0.55) * 4, 0, 1) * brain
    image += (0.48 + 0.04 * body.texture(6)) * brain + 0.1 * folds * cortex
    image -= 0.12 * line(body.x - head.x, 0.05) * brain
    for side in (-1, 1):
        horn = body.at(side * 0.13, 0, 0.09, 0.27, 0.3)
        image -= 0.25 * body.inside(horn)
    return image, Ellipse(head.x, head.y, 0.78 * head.width, 0.78 * head.height)


def ultrasound(body: Body) -> Scene:
    """A fan of speckled soft tissue in layers that fades with depth; findings lie in the fan."""
    deep, across = body.y + 1.25, body.x
    reach, angle = np.hypot(across, deep), np.arctan2(across, deep)
    fan = step((np.abs(angle) - body.vary(0.52, 0.66)) * reach) * step(reach - 2.12)
    layers = np.sin(reach * body.vary(9, 15) + body.texture(3) + body.vary(0, 6))
    tissue = 0.52 + 0.09 * layers + 0.06 * body.texture(8)
    tissue += 0.3 * line(reach - body.vary(0.45, 0.6), 0.09)
    tissue -= 0.2 * line(angle - body.vary(-0.5, 0.5), 0.06)
    grain = body.rng.gamma(20, 1 / 20, size=reach.shape).astype(np.float32)
    image = tissue * fan * grain * (1.1 - body.vary(0.15, 0.3) * reach)
    return image, body.at(0, 0.12, 0.52, 0.58, 0.08)


MODALITIES: dict[str, Callable[[Body], Scene]] = {
    "ct": ct,
    "xray": xray,
    "mri": mri,
    "ultrasound": ultrasound,
}
