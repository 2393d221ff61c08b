"""Further templates of each category, one file a category; see ``knexa.data.codelets``."""
