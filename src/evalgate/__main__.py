"""`python -m evalgate`."""

from evalgate.cli import main

main()
