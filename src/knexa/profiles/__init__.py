"""Profiles, which agents show the matchmaker: ``layout`` of features, ``build``, ``privacy``."""
