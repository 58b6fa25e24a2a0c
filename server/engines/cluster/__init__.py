"""Flower's simulation on several machines: a Ray cluster that its user has started.

``ray start --head`` on one machine and ``ray start --address=...`` on the others make a cluster;
``address`` says which one a run uses. Before anything of the run is written, ``check`` has every
machine looked at by ``survey``: does it have the same code (``machine_report``) and the same data?
While the run goes on, ``archive`` keeps the ledgers of simulated hospitals on the machine of the
run and hands them to whichever machine a hospital works on next (``client.away``).
"""
