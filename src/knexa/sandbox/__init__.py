"""Runs hostile programs against tests that they cannot see.

Three processes are involved: the caller (``executor``, ``verifier``) sends jobs to a *trusted
verifier* (``trusted``, ``program_run``), which holds tests and verdicts; the verifier asks a
*sandbox server* (``candidate``), which is confined by kernel ``layers`` and has no tests, to fork
once per program (``program_side``). Values cross as data (``codec``, ``values``, ``objects``). The
verifier and the server import this package as ``sandbox``, without the rest of knexa, so nothing
may be imported here.
"""
