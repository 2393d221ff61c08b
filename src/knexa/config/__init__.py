"""Configs: composed, checked against the constructors, and turned into a run's settings."""
