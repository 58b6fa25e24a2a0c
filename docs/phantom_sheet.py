"""Draw docs/images/phantoms.png: one image of every finding in every modality.

python docs/phantom_sheet.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from metaward.client.tasks.phantom import NAMES, Phantom


def main() -> None:
    """One row per hospital (one modality and one scanner each), one column per finding."""
    source = Phantom(hospitals=4, findings=len(NAMES), novel=0, held=len(NAMES), records=600)
    figure = Figure(figsize=(13, 3.7), layout="constrained")
    grid = figure.subplots(source.hospitals, len(NAMES))
    for index, row in enumerate(grid):
        hospital = source.hospital(index, None, 7)
        for finding, axes in enumerate(row):
            axes.imshow(hospital.x[hospital.by_class[finding][0]], cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            if index == 0:
                axes.set_title(NAMES[finding], fontsize=7)
        row[0].set_ylabel(hospital.note["modality"], fontsize=8)
    figure.savefig(Path(__file__).with_name("images") / "phantoms.png", dpi=100)


if __name__ == "__main__":
    main()
