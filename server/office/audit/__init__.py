"""An attack on the mechanism of a run, as a command."""
