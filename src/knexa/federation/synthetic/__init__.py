"""Federations whose agents are formulas: seconds for hundreds of rounds, and true regret."""
