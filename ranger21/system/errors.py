"""What a user can get wrong."""


class UserError(Exception):
    """A mistake of the user's, told in one sentence."""
