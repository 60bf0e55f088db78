"""Mistakes that a user can mend."""


class UserError(Exception):
    """What was wrong and what would be right, in one line; the command prints it and exits with 2."""
