"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake of the user's: one line that names what is wrong, what is allowed and the fix.

    The command line prints the message without a traceback and exits with code 2.
    """
