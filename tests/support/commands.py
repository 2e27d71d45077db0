"""The command line, called as its script calls it, in this process: what loads once serves all tests."""

import sys

import pytest


class Commands:
    """Runs commands and returns exit code, standard output and standard error."""

    def __init__(self, monkeypatch, capfd):
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments):
        from aftertune.cli.app import main

        self.monkeypatch.setattr(sys, "argv", ["aftertune", *map(str, arguments)])
        self.capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = self.capfd.readouterr()
        return left.value.code or 0, out, err

    def refused(self, *arguments):
        """Return the one line that a command which cannot be done, or read, leaves on standard error."""
        code, out, err = self(*arguments)
        assert code in {1, 2}, err
        assert out == ""
        assert err.startswith("aftertune: ")
        assert err.count("\n") == 1, err
        return err
