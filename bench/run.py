"""All benchmarks, one after the other: ``make bench``, or ``python bench/run.py NAME...`` for some of them.

Each is a program of its own (``bench/NAME.py``) in a process of its own, so that peaks of memory and imports are its own.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run the benchmarks and return the worst exit code."""
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("run", "latest"))
    unknown = set(sys.argv[1:]) - set(known)
    if unknown:
        print(
            f"no benchmark is called {', '.join(sorted(unknown))}; there: {', '.join(known)}",
            file=sys.stderr,
        )
        return 2
    worst = 0
    for name in sys.argv[1:] or known:
        print(f"== {name}", flush=True)
        worst = max(
            worst, subprocess.run([sys.executable, HERE / f"{name}.py"], check=False).returncode
        )
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
