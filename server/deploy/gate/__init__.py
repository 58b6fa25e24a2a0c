"""The gate of a hospital: what passes between its SuperNode and the consortium's server."""
