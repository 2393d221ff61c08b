"""Membership inference: do packages reveal in whose training set a problem was?"""
