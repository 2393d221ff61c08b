"""Runs hostile programs against tests that they cannot see.

The caller (``executor``, ``verifier``) sends jobs to a *trusted verifier* (``trusted``,
``program_run``), which holds tests and verdicts. The verifier asks a *sandbox server* (``server``),
which is confined by kernel ``layers`` and has no tests: its ``zygote`` forks a program
(``program_side``), its ``watcher`` limits it. Values cross as data (``codec``, ``values``,
``objects``). The verifier and the server import this package as ``sandbox``, without the rest of
knexa, so nothing may be imported here.
"""
