"""Every failure that Aftertune reports on purpose.

AftertuneError                  exit 1: one line that says what is wrong, where, and what to do
├── InputError                  something that the user wrote or named cannot be used
│   ├── OptionError             exit 2: an option or argument that no file or model could make right
│   ├── StudyError              study.yaml: names file, line, key and remedy
│   ├── DataError               a data file or prompt set: names file, row and column
│   ├── ModelError              a model reference: missing, without weights, of another base
│   └── PluginError             a judge, guard, task or loader that cannot be found or built
├── StoreError                  the store cannot be used
│   ├── StoreDamaged            it holds what no version wrote
│   ├── StoreLocked             another process writes to it
│   └── StoreVersion            it was written by another schema
├── EngineError                 a model could not do what was asked (out of memory at batch size one, ...)
├── KeysChanged                 a server refuses a setting: jobs have other keys now (stages plan them anew)
├── NoVerdictLeft               exit 4: after the base's answers no fine-tune could PASS or FAIL (`check` asks no further)
└── Stopped                     exit 5: stopped on purpose (budget, Ctrl-C); run again to go on
"""


class AftertuneError(Exception):
    """Base of all errors that are reported in one line instead of a traceback."""

    exit_code = 1


class InputError(AftertuneError):
    """Something that the user wrote or named cannot be used."""


class OptionError(InputError):
    """An option or argument of the command line is wrong by itself, whatever files and models there are."""

    exit_code = 2


class StudyError(InputError):
    """A study file is wrong; the message names file, line, key and remedy."""


class DataError(InputError):
    """A data file or prompt set is wrong; the message names file, row and column."""


class ModelError(InputError):
    """A model reference is wrong: missing, without weights, an adapter of another base."""


class PluginError(InputError):
    """A judge, guard, task or loader cannot be found or built."""


class StoreError(AftertuneError):
    """The store cannot be used."""


class StoreDamaged(StoreError):
    """The store holds what no version of Aftertune wrote; the message names the table and row."""


class StoreLocked(StoreError):
    """Another process is writing to the store; it can still be read."""


class StoreVersion(StoreError):
    """The store was written by another schema; it is never altered silently."""


class EngineError(AftertuneError):
    """A model could not do what was asked of it."""


class KeysChanged(AftertuneError):
    """A server refuses a setting, so that requests and their keys are others now; the stage plans its jobs anew."""


class NoVerdictLeft(AftertuneError):
    """The base's answers let no fine-tune PASS or FAIL; the message says why, and what would decide."""

    exit_code = 4


class Stopped(AftertuneError):
    """The run was stopped on purpose and goes on where it was when started again."""

    exit_code = 5
