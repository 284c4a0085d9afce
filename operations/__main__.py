"""`python -m operations` is the `wallet` command, for children that must run this very code."""

from operations.main import main

main()
