"""The filter at an agent's gateway, and what it looks for."""
