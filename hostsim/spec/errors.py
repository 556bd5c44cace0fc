"""What a person did wrong, as opposed to what we did wrong."""


class UserError(ValueError):
    """Input that can't be used: a file, a value, an address.

    The message is one line that says what, where, and if possible the mend. The command line prints it
    after ``coldfleet:`` on stderr and exits with 2; nothing else is printed.
    """
