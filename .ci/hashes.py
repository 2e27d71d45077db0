"""Writes requirements-ci.txt: every pin of constraints.txt with the SHA-256 of the file that pip takes for it on this machine.

Run by ``make hashes`` on Linux x86-64 with CPython 3.11. torch is left out: its wheel differs with the index it comes from.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WITHOUT = {"torch"}
HEAD = """\
# constraints.txt with the hash of each wheel (CPython 3.11, Linux x86-64); torch alone has none, for its wheel differs by index.
# `make setup HASHED=1` installs these with --require-hashes. Written by `make hashes`.
"""


def normal(name: str) -> str:
    """Return a package's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def changed(before: str, rows: list[str]) -> list[str]:
    """Return the pins that have another hash than in the file as it was: another build, or a changed file."""
    hashes = dict(row.split(" --hash=") for row in before.splitlines() if " --hash=" in row)
    pairs = (row.strip().split(" --hash=") for row in rows)
    return [pin for pin, hash_ in pairs if hashes.get(pin, hash_) != hash_]


def main() -> None:
    """Ask pip what it would install, without installing it, and write the hashes."""
    wanted_file = ROOT / "requirements-ci.txt"
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    pins = [pin for pin in pins if normal(pin.partition("==")[0]) not in WITHOUT]
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / "pins.txt", Path(folder) / "report.json"
        wanted.write_text("\n".join(pins), encoding="utf-8")
        options = ("--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", report)
        command = [sys.executable, "-m", "pip", "install", *options, "-r", wanted]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(
                "hashes: pip has no file here for one of the pins (above); requirements-ci.txt is as it was. Use an index that "
                "has them, with CPython 3.11 on Linux x86-64"
            )
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    hashes = {
        normal(entry["metadata"]["name"]): entry["download_info"]["archive_info"]["hashes"]["sha256"] for entry in installed
    }  # fmt: skip
    rows = [f"{pin} --hash=sha256:{hashes[normal(pin.partition('==')[0])]}\n" for pin in pins]
    before = wanted_file.read_text(encoding="utf-8") if wanted_file.is_file() else ""
    wanted_file.write_text(HEAD + "".join(rows), encoding="utf-8")
    print(f"hashes: {len(rows)} pins")
    if others := changed(before, rows):
        print(
            f"hashes: of the same version, but another file than before: {', '.join(others)}. The index in use serves other builds, "
            "or a file was changed: find out which before you commit",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
