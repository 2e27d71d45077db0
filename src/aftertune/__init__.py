"""Aftertune tells you what fine-tuning did to a model's safety, task by task, how sure you can be, and how to mend it.

The public names (`docs/api.md`) stand in ``__init__.pyi``. They load at first use, so that importing the package costs nothing.
"""

import lazy_loader

__version__ = "0.2.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
