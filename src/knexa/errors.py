"""The exceptions that mean "the user can mend this"."""


class UserError(Exception):
    """A mistake of the user's: one line that names what is wrong, what is allowed and the fix.

    The command line prints the message without a traceback and exits with code 2.
    """


class MachineError(UserError):
    """What the machine could not give a run: disk space, a worker that stays alive.

    One line as well, but nothing about the command is wrong: the same one goes on when the machine
    can. Exit code 1.
    """
