"""The command `metaward`."""

from __future__ import annotations

import io
import signal
import sys
from typing import Annotated, NoReturn

import click
import typer

from metaward.errors import BAD_INPUT, FAILED, MetawardError
from metaward.server.evaluations.lists import WithLists
from metaward.server.late import Late, late_group
from metaward.server.terminal import complain
from metaward.server.version import code_version

COMMANDS = {
    "run": Late(
        "metaward.server.running:run",
        "Meta-train on the training hospitals and evaluate the result on the unseen ones.",
    ),
    "resume": Late(
        "metaward.server.running:resume",
        "Go on with the interrupted or failed run in FOLDER from its last checkpoint, bit for bit.",
    ),
    "report": Late(
        "metaward.server.page.command:report",
        "Write report.html: what a run was, what it learned, and how its rounds went.",
    ),
    "evaluate": Late(
        "metaward.server.evaluations.command:evaluate",
        "Judge the finished run in RESULT in detail: more episodes, shots, steps and baselines.",
        WithLists,
    ),
    "compare": Late(
        "metaward.server.comparing.command:compare",
        "Set runs side by side: what differs in them, and what each of them reached.",
    ),
    "sweep": Late(
        "metaward.server.sweeping.command:sweep",
        "Compare settings by trials that the hospitals for validation judge, and name the best.",
    ),
    "adapt": Late(
        "metaward.server.adapting.command:adapt",
        "Adapt the finished run RESULT to a new hospital's labelled records. Nothing is sent.",
    ),
    "predict": Late(
        "metaward.server.adapting.command:predict",
        "Predict the class of every record with an adapted MODEL; labels need not be there.",
    ),
    "tasks": Late(
        "metaward.server.holdings:tasks",
        "Show the records that hospitals hold.",
    ),
    "data": Late(
        "metaward.server.data:data",
        "A hospital's own files: check them, or write an example.",
    ),
    "phantom": Late(
        "metaward.server.holdings:phantom",
        "Write the phantom hospitals' images to DIRECTORY as .npz files in MedMNIST's layout.",
    ),
    "privacy": Late(
        "metaward.server.office.commands:privacy",
        "What privacy costs, has cost, and whether it is so.",
    ),
    "ledger": Late(
        "metaward.server.office.accounts.command:ledger",
        "The hospital's ledger of every use of a record.",
    ),
    "deploy": Late(
        "metaward.server.deploy.commands_of:deploy",
        "Run a real deployment of Flower.",
    ),
    "doctor": Late(
        "metaward.server.deploy.doctor.command:doctor",
        "Check a hospital's or a server's machine before a run, and say what to do.",
    ),
    "guard": Late(
        "metaward.server.deploy.guard.command:guard",
        "Answer for this hospital: nothing else needs to read its records, ledger, policy, keys.",
    ),
    "gate": Late(
        "metaward.server.deploy.gate.command:gate",
        "Stand between this hospital's SuperNode and the server: only code on the list comes in.",
    ),
}

cli = typer.Typer(
    cls=late_group(COMMANDS),
    help="Federated meta-learning for hospitals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # click suggests them already
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(code_version())
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Federated meta-learning for hospitals."""


def main() -> NoReturn:
    """Run the command, with an exit code for programs.

    0: it finished; 1: it failed, for the reason printed; 2: bad input, nothing was started; 130: it
    was interrupted.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):  # as schedulers and closed terminals end it
        if signal.getsignal(ending) is signal.SIG_DFL:  # nohup asks for something else
            signal.signal(ending, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):  # a name that it cannot spell loses no finished run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MetawardError as error:
        for note in getattr(error, "__notes__", ()):
            complain(note)
        complain(f"{'error' if error.exit_code == BAD_INPUT else 'failed'}: {error}")
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that vanished, rights that are missing
        complain(f"failed: {error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(FAILED)
    sys.exit(code)
