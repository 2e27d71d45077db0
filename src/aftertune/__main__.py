"""Runs the command line as ``python -m aftertune``, for where the environment's scripts are not on the path."""

from aftertune.cli import main

main()
