"""Starts the command line, as ``aftertune`` and as ``python -m aftertune``: Ctrl-C while it loads is a stop like others."""

import sys


def main() -> None:
    """Load the commands and run the one that was named."""
    try:
        from aftertune.cli.app import main as command
    except KeyboardInterrupt:
        sys.stderr.write("aftertune: stopped before anything was begun\n")
        raise SystemExit(5) from None
    command()


if __name__ == "__main__":
    main()
