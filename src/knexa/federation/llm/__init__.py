"""A federation of language-model agents."""
