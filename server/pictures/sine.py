"""The classic picture of meta-learning: ten points of a sinusoid, and the fit of a few steps.

The server can draw it only because this source is made up and needs no hospital's data.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from safetensors.numpy import load_file

from metaward.client.tasks.sine import SPAN, Sine
from metaward.client.work import stream
from metaward.server.evaluate import ScoreTable
from metaward.server.folder import Folder
from metaward.server.pictures.figure import COLOURS, INK, picture
from metaward.sim import Sim


def draw_sine(run: Sim, folder: Folder, table: ScoreTable) -> None:
    """Write sine.png: the first tasks of three hospitals that judge, where tasks are sinusoids."""
    source = run.client.tasks
    if not isinstance(source, Sine):
        return
    seats = source.roster()
    judging = [i for i, seat in enumerate(seats) if seat.name in run.judging()][:3]
    with picture(folder.path / "sine.png", height=3.6) as figure:
        panels = figure.subplots(1, len(judging), squeeze=False)[0]
        for axes, index in zip(panels, judging, strict=True):
            _panel(axes, run, source, index, folder)
            axes.set_title(seats[index].name)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _panel(axes: Axes, run: Sim, source: Sine, index: int, folder: Folder) -> None:
    hospital = source.hospital(index, None, run.seed)
    episode = hospital.episode(stream(run.seed, "evaluate", index, 0))
    grid = np.linspace(*SPAN, 200, dtype=np.float32)
    assert hospital.groups is not None
    group = int(hospital.groups[episode.support_rows[0]])
    axes.plot(grid, source.true_curve(index, run.seed, group, grid), color=INK, label="truth")
    axes.plot(episode.support_x[:, 0], episode.support_y[:, 0], "o", color=INK, markersize=4)
    setting, learner = run.setting(), run.client.inner
    theta = torch.from_numpy(load_file(folder.path / "theta.safetensors")["theta"])
    steps = learner.adapt_steps
    for start, count, style, colour, label in (
        (theta, 0, ":", COLOURS[0], "theta as it arrives"),
        (theta, steps, "-", COLOURS[0], f"after {steps} steps"),
        (
            learner.initial(setting, run.seed),
            steps,
            "-",
            COLOURS[1],
            f"from scratch, {steps} steps",
        ),
    ):
        predict = learner.adapt(setting, start, setting.support(episode), count)
        with torch.no_grad():
            y = predict(torch.from_numpy(grid[:, None]))[:, 0].numpy()
        axes.plot(grid, y, style, color=colour, label=label)
