"""All commands of the group ``metaward deploy``."""

from __future__ import annotations

from metaward.server.deploy.command import deploy
from metaward.server.deploy.consortium import command

for name in ("init", "add", "renew", "revoke", "approve", "register", "status"):
    deploy.command(name)(getattr(command, name))
deploy.command("run")(command.carry_out)

__all__ = ["deploy"]
