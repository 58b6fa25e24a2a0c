"""An adapted model as files: its tensors with all that a prediction needs to know.

model.safetensors   every tensor; its metadata say classes, input shape, how records are read and
                    prepared, the network, and the run that it comes from with that run's claim
model.pt2           the same by torch.export: records in, outputs out, no code of ours needed
model.onnx          the same for other programs, where the extra ``onnx`` is installed
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from metaward.client.desk import NETWORK
from metaward.client.models import Architecture, Portable
from metaward.client.models.base import fed_shape, shapes_of
from metaward.client.tasks.folder_files import LARGEST_RECORD, RecordForm
from metaward.errors import InputError
from metaward.json_text import read_json
from metaward.options import build, plain

FORMAT = "metaward adapted model 1"
TENSORS, EXPORTED, ONNX = "model.safetensors", "model.pt2", "model.onnx"
MODEL = "model"
"""The folder of a model that may be published, beside which the local files lie."""
MIX = "mix.weight"
NEEDED = ("onnx", "onnxscript")


@dataclass(frozen=True)
class ModelOrigin:
    """The run that a model comes from: its id, name, and what it claims about its hospitals'
    privacy."""

    run: str
    name: str
    privacy: str


@dataclass(frozen=True)
class Described:
    """What a file says about its model: ``classes`` (N,) in the order of the outputs, ``form``, how
    records are read, ``preparation`` in words, the ``network`` and whether its features are
    ``mixed``, and the ``origin``."""

    classes: tuple[str, ...]
    form: RecordForm
    preparation: str
    network: dict[str, Any]
    mixed: bool
    origin: ModelOrigin

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a record; a table's is the number of its columns and choices."""
        form = self.form
        table = len(form.columns) + sum(len(choice) - 1 for choice in form.choices)
        return form.shape if not table else (table,)


@dataclass(frozen=True)
class _Holder:
    """Reads a network by its name and options, as a run's yaml does."""

    network: Annotated[Architecture, NETWORK]


def tensors_of(module: Portable, about: Described) -> bytes:
    """The content of model.safetensors: equal bytes for equal models, so it has one entry of
    metadata, because the library writes several in any order."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}
    told = {"format": FORMAT, **plain(asdict(about))}
    return bytes(save(tensors, {"about": json.dumps(told)}))


def module_in(stored: bytes, about: Described) -> tuple[Portable, Described]:
    """The module in the content of a model.safetensors, and what is said about it.

    ``about`` need not know whether features are mixed: the tensors say it.
    """
    tensors = load(stored)
    told = replace(about, mixed=MIX in tensors)
    return _module(told, tensors), told


def read_model(place: Path) -> tuple[Portable, Described]:
    """The model of a folder that `metaward adapt` wrote; ``InputError`` where there is none, its
    files are damaged, or its network is not known here."""
    inner = place / MODEL / TENSORS
    path = inner if inner.is_file() else place / TENSORS
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = read_json(metadata.get("about", "{}"))
        if not isinstance(told, dict) or told.pop("format", None) != FORMAT:
            raise ValueError("it does not say that it is a model of metaward adapt")
        about = TypeAdapter(Described).validate_json(json.dumps(told))
        return _module(about, tensors), about
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        text = f"{path} cannot be read ({error}); name a folder that metaward adapt wrote"
        raise InputError(text) from error


def _module(about: Described, tensors: dict[str, Tensor]) -> Portable:
    faults: list[str] = []
    holder = build(_Holder, {"network": about.network}, "", faults)
    if holder is None:
        raise ValueError("; ".join(faults))
    _check_shapes(holder.network, about, tensors)
    module = Portable(holder.network, about.input_shape, len(about.classes), about.mixed)
    module.load_state_dict(tensors)
    return module


def _check_shapes(network: Architecture, about: Described, tensors: dict[str, Tensor]) -> None:
    """``ValueError`` where the tensors are not those of such a network, before it takes memory."""
    if prod(about.input_shape) > LARGEST_RECORD:
        raise ValueError(f"a record of shape {about.input_shape} has too many values")
    fed = fed_shape(network, about.input_shape)
    features = network.features(fed)
    shapes = {f"body.{name}": shape for name, shape in shapes_of(network, fed).items()}
    shapes |= {"head.weight": (len(about.classes), features)}
    shapes |= {MIX: (features, features)} if about.mixed else {}
    for name, shape in shapes.items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise ValueError(f"it has no tensor {name} of shape {shape}")


# ------------------------------------------------------------------------- other programs


def write_exports(place: Path, module: Portable, input_shape: tuple[int, ...]) -> dict[str, str]:
    """Write model.pt2 and model.onnx; for each file that cannot be written, why."""
    absent = {}
    with _quiet():
        try:
            exported = _exported(module, input_shape)
            torch.export.save(exported, place / EXPORTED)
        except Exception as error:  # torch.export raises whatever a network of one's own does
            why = f"torch.export cannot follow this network ({type(error).__name__})"
            return {EXPORTED: why, ONNX: why}
        lacking = [name for name in NEEDED if find_spec(name) is None]
        if lacking:
            return {ONNX: f"{lacking[0]} is not installed: pip install 'metaward[onnx]'"}
        try:
            _write_onnx(place / ONNX, exported, input_shape)
        except Exception as error:  # as above
            absent[ONNX] = f"this network has no ONNX form ({type(error).__name__})"
            (place / ONNX).unlink(missing_ok=True)
    return absent


def _exported(module: Portable, input_shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """The module for any number of records."""
    records = torch.zeros(2, *input_shape)
    several = {0: torch.export.Dim("records")}
    return torch.export.export(module, (records,), dynamic_shapes=(several,))


def _write_onnx(
    path: Path, exported: torch.export.ExportedProgram, input_shape: tuple[int, ...]
) -> None:
    torch.onnx.export(
        exported,
        (torch.zeros(2, *input_shape),),
        path,
        input_names=["records"],
        output_names=["outputs"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings about their own insides from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
