"""Matchmaking of large federations: the same scores and matchings, in blocks and in few passes.

Nothing here defines a result. The definitions are the plain ones: ``linucb.py`` for scores and
``matchings.py`` for the greedy matching; tests hold the two equal but for rounding.
"""

LARGE = 512
"""Up to so many agents, the plain code is fast enough and N^2 contexts fit into memory."""
