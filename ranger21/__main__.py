"""`python -m ranger21 train …` is `ranger21 train …`, for torchrun and for an environment that is not activated."""

from ranger21.commands import main

main()
