"""The guard: one process of the hospital's own that alone reaches records, ledger, policy, keys.

The code that a server ships asks it over a Unix socket and passes its answers on.
"""
