"""The command that runs a hospital's guard."""
