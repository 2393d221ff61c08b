"""Matchmaking of large federations: the same scores and choices, without all contexts in memory.

``linucb.py``, ``matchings.py`` and ``selections.py`` define these results in plain code; tests
compare the two.
"""

LARGE = 512
"""Up to this many agents the plain code is fast enough and N^2 contexts fit into memory."""

LARGE_BY_TOPIC = 32
"""The same where arms have topics, of which there are a dozen to a pair of agents."""
