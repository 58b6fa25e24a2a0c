# %% [markdown]
# # Records, a network and a learner of your own
#
# Nothing here touches the package: each part is registered by one call, and a run then names it as
# it names metaward's own. Open this file as a notebook, or run it: `python docs/notebook.py`.

# %%
import os

import numpy as np
import torch

import metaward as mw
from metaward.client.inner import Reptile, descend, over_tasks, private_gradient, whole

rng = np.random.default_rng(0)

# %% [markdown]
# ## Records of your own
#
# Five made-up hospitals measure twelve values of every patient. Four findings look the same at all
# of them, but each hospital's device has an offset of its own.

# %%
findings = rng.normal(size=(4, 12))


def measured(count: int) -> tuple[np.ndarray, np.ndarray]:
    y = rng.integers(0, 4, count)
    return findings[y] + rng.normal(size=12) + 1.5 * rng.normal(size=(count, 12)), y


mw.register.tasks(
    "clinics",
    [mw.Records(f"clinic-{k}", *measured(200), "train" if k < 3 else "unseen") for k in range(5)],
)

# %% [markdown]
# ## A network of your own
#
# A `torch.nn.Module` whose first parameter is the shape of a record; the others are yaml options.


# %%
@mw.register.network("small")
class Small(torch.nn.Module):
    def __init__(self, input_shape: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        self.layer, self.norm = torch.nn.Linear(input_shape[0], width), torch.nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.layer(x)))


# %% [markdown]
# ## A learner of your own
#
# Reptile whose tasks are pulled back to where they began (Zhou, Yuan, Xu, Yan, Feng 2019: Efficient
# Meta Learning via Minibatch Proximal Update). It reaches records through the session alone, so
# every mechanism of privacy can price it and protect what it takes.


# %%
@mw.register.learner("proximal")
class Proximal(Reptile):
    pull: float = 0.1

    def update(self, setting, theta, episodes, session, rng):
        step = private_gradient(setting, setting.network(setting.spec.outputs), session, "support")

        def pulled(phi, batch):
            gradient, loss = step(phi, batch)
            return gradient + self.pull * (phi - theta), loss

        def direction(start, tasks):
            batches = [[whole(setting, task)] * self.steps for task in tasks]
            ends = [descend(pulled, start, batch, self.lr) for batch in batches]
            moved, losses = (torch.stack(one).mean(dim=0) for one in zip(*ends, strict=True))
            return moved - start, losses

        return over_tasks(theta, episodes, direction, self.local_lr, session)


# %% [markdown]
# ## Plan, run, adapt
#
# The plan is of the same run with every record protected; no data is opened for it.

# %%
run = mw.load(
    {
        "name": "own",
        "client": {
            "tasks": {"source": "clinics", "ways": 4, "shots": 3, "queries": 5, "canonical": True},
            "model": {"network": "small", "width": 24},
            "inner": {
                "algorithm": "proximal",
                "pull": 0.2,
                "lr": 0.1,
                "steps": 5,
                "adapt_steps": 5,
            },
        },
        "privacy": {"mechanism": "none"},
        "strategies": {"combine": {"rule": "mean"}, "outer": {"optimizer": "sgd", "lr": 1.0}},
        "server": {"rounds": 8, "evaluation": {"final_episodes": 20, "baselines": ["scratch"]}},
    },
    {"server.engine": os.environ.get("ENGINE", "inprocess")},
)
private = mw.load(run, {"privacy": {"mechanism": "sums"}, "client.schedule": "passes"})
print(mw.plan(private).verdict)

# %%
out = os.environ.get("OUT")
result = mw.run(run, out, observe=lambda row: "loss" in row and print(row["round"], row["loss"]))
for row in result.table:
    print(f"{row['learner']:12} {row['before']:.2f} -> {row['after']:.2f}")

# %% [markdown]
# A new hospital adapts the shared initialisation to three labelled patients of each finding, and
# asks for its other patients. Nothing leaves it.

# %%
x, y = measured(200)
few = np.concatenate([np.flatnonzero(y == finding)[:3] for finding in range(4)])
rest = np.setdiff1d(np.arange(200), few)
model = result.adapt(x[few], y[few])
print(f"right in {np.mean(model.predict(x[rest]) == y[rest]):.0%} of {len(rest)} patients")
