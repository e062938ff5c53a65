"""`python -m ranger21`, the same as the command `ranger21`, for torchrun and environments that are not activated."""

from ranger21.commands import main

main()
