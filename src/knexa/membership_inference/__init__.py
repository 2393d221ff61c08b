"""Membership inference: what packages tell about whose training set a problem was in."""
