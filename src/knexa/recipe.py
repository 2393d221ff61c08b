"""The version of what the code computes: part of every run's identity."""

RECIPE = 6
"""Bumped with every change that moves a golden result, or what identifies a run, so that an old run
is never mistaken for one that today's code would make. 6: identities name no Python modules."""
