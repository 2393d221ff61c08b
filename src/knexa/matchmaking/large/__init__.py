"""Matchmaking of large federations: the same scores and matchings, without N^2 contexts in memory.

Nothing here defines a result: ``linucb.py`` has the scores and ``matchings.py`` the greedy matching
as formulas, and tests compare the two.
"""

LARGE = 512
"""Up to this many agents the plain code is fast enough, and N^2 contexts fit into memory."""
