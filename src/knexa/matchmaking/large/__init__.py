"""Matchmaking of large federations: the same scores and matchings, without N^2 contexts in memory.

``linucb.py`` and ``matchings.py`` define these results in plain code; tests compare the two.
"""

LARGE = 512
"""Up to this many agents the plain code is fast enough and N^2 contexts fit into memory."""
