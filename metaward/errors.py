"""All errors of metaward, as a tree that a test compares with the code.

    MetawardError
    ├── InputError (ValueError)            the input is wrong: exit code 2
    │   ├── ConfigError                    a configuration or a command's argument
    │   ├── DataError                      a data file is missing, damaged or too small
    │   ├── FolderTakenError (FileExistsError)  a result folder holds another run already
    │   ├── NodeError                      a hospital's machine lacks what its node config names
    │   ├── PluginError                    a part that a package offers cannot be used
    │   ├── UnpricedError                  an event that no accountant can price
    │   └── WireError                      a message that metaward did not write
    ├── RunError (RuntimeError)            the work could not be finished: exit code 1
    │   ├── BusyError                      another process is working in the folder
    │   ├── CheckpointError                a checkpoint is missing or damaged
    │   ├── EngineError                    Flower's runtime did not finish the run
    │   ├── FlowerError                    a command of Flower failed
    │   ├── MeterError                     the port for metrics cannot be opened
    │   ├── NoKernel                       there is no compiled kernel; the loop takes its place
    │   ├── Overdraft                      an algorithm asked for more than was charged
    │   ├── QuorumError                    too few hospitals gave a valid answer
    │   ├── RosterError                    hospitals do not match the configuration
    │   └── TooFewError                    a combining rule means nothing for so few updates
    ├── ClashError                         a simulated hospital worked in two processes at once
    ├── LedgerError                        a ledger cannot be used; exit code by cause
    │   └── BudgetSpent                    a unit has too little of its budget left
    └── PolicyError                        the hospital's policy forbids it: exit code 2

The text of an error may name paths and values and stays on the machine where it was raised. Only
``code``, one of a fixed set (``privacy.release.REFUSALS``), ever leaves a hospital.
"""

from __future__ import annotations

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes of commands, in addition to 0."""


class MetawardError(Exception):
    """The base of all errors of metaward.

    ``exit_code`` is the exit code of a command that ends with the error; ``code`` is the fixed word
    with which a hospital refuses a request because of it.
    """

    exit_code = FAILED
    code = "failed"


class InputError(MetawardError, ValueError):
    """The input is wrong; the text says what is wrong, and the way out."""

    exit_code = BAD_INPUT


class RunError(MetawardError, RuntimeError):
    """The work could not be finished; the text says why, and how to go on."""


def printable(text: str) -> str:
    """The text, with what UTF-8 cannot write (halves of surrogate pairs) as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
