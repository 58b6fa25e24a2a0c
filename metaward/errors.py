"""All errors of ours, as a tree that a test holds against the code.

    MetawardError
    ├── InputError (ValueError)            what was given is wrong: exit code 2
    │   ├── ConfigError                    a configuration or a command's argument
    │   ├── DataError                      a data file is missing, damaged or too small
    │   ├── FolderTakenError (FileExistsError)  a result folder holds another run already
    │   ├── NodeError                      a hospital's machine lacks what its node config names
    │   ├── PluginError                    a part that a package offers cannot be used
    │   ├── UnpricedError                  an event that no accountant can price
    │   └── WireError                      a message that is not ours
    ├── RunError (RuntimeError)            what was begun could not be finished: exit code 1
    │   ├── BusyError                      another process is at work in the folder
    │   ├── CheckpointError                a checkpoint is missing or damaged
    │   ├── EngineError                    Flower's runtime did not bring the run to its end
    │   ├── Overdraft                      an algorithm asked for more than was charged
    │   ├── QuorumError                    too few hospitals answered usefully
    │   └── RosterError                    hospitals and configuration do not fit
    ├── LedgerError                        a ledger cannot be used; the exit code depends on why
    │   └── BudgetSpent                    a unit has too little of its budget left
    └── PolicyError                        a request outside the hospital's policy: exit code 2

The text of an error may name paths and values and stays on the machine where it was raised. Only
``code``, one of a fixed set (``privacy.release.REFUSALS``), ever leaves a hospital.
"""

from __future__ import annotations

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes of commands, beside 0."""


class MetawardError(Exception):
    """What all errors of ours share.

    ``exit_code`` is what a command ends with where nothing catches the error; ``code`` is the fixed
    word with which a hospital refuses a request because of it.
    """

    exit_code = FAILED
    code = "failed"


class InputError(MetawardError, ValueError):
    """What was given is wrong; the text says what is, and the way out."""

    exit_code = BAD_INPUT


class RunError(MetawardError, RuntimeError):
    """What was begun could not be finished; the text says why, and how to go on."""
