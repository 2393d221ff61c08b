"""The version of what the code computes: part of every run's identity."""

RECIPE = 5
"""Bumped with every change that moves a golden result, so that an old run is never mistaken for one
that today's code would make."""
