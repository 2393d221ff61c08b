"""``python -m knexa.NAME`` for commands whose name is no room's: ``knexa/__init__`` looks here."""
