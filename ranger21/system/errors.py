"""The exception for mistakes that a user can correct."""


class UserError(Exception):
    """A mistake that the user can correct; its message says what is wrong and what to do."""
