"""Running hostile programs against tests that they never see.

Three processes stand between a program and its verdict: the caller (``executor``, ``verifier``)
hands jobs to a *trusted verifier* (``trusted``, ``session``) that holds tests and verdicts; the
verifier asks a *sandbox server* (``candidate``), confined by kernel ``layers`` and without tests,
for one fork per program; values cross as data (``codec``). The verifier and the server import this
package as ``sandbox``, without the rest of knexa, so nothing may be imported here.
"""
