"""Lets Hydra find this folder as the config module ``knexa.conf``."""
