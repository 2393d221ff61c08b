"""The commands: ``knexa`` runs experiments, ``knexa report`` and the like do the rest."""
