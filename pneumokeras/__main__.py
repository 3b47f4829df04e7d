"""`python -m pneumokeras`: the command line."""

from pneumokeras.cli import main

main()
