"""What runs are identified by, beside the values of their configs."""

RECIPE = 6
"""Bumped with every change that moves a golden result, or what identifies a run, so that an old run
is never mistaken for one that today's code would make. 6: identities name no Python modules."""

NAME = "_name_"
"""Stands for ``_target_`` where a component is identified."""
