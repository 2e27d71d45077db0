"""Starts the command line, as ``aftertune`` and as ``python -m aftertune``: whatever asks it to end is a stop like Ctrl-C."""

import gc
import os
import signal
import sys
from types import FrameType

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""Signals that ask a process to end, beside Ctrl-C: of a scheduler, a closed terminal, a console of Windows."""


def main() -> None:
    """Load the commands and run the one that was named."""
    try:
        for number in STOPPING:
            if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has them ignored
                signal.signal(number, signal.default_int_handler)
        from aftertune.cli.app import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("aftertune: stopped before anything was begun\n")
        _end_with(5)
        raise SystemExit(5) from None
    except SystemExit as end:
        _end_with(end.code if isinstance(end.code, int) else 0)
        raise


def _end_with(code: int) -> None:
    """Let a signal that comes after the command's last word end the process with the command's own code, and end soon.

    The interpreter's last search for cycles walks through everything that torch and transformers have made, for a second.
    """
    gc.freeze()

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.stdout.flush()
        os._exit(code)

    for number in (signal.SIGINT, *STOPPING):
        if signal.getsignal(number) == signal.default_int_handler:
            signal.signal(number, leave)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # `python -m` puts the current folder first: a brotli.py that lies there would be imported by a library.
        del sys.path[0]
    main()
