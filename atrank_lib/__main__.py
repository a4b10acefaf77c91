"""`python -m atrank_lib` is the program `atrank`."""

from atrank_lib.cli import main

main()
