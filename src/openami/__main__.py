"""`python -m openami` is `openami`."""

from .cli import main

main()
