"""`python -m edgespec` is the command line."""

from .cli import main

main()
