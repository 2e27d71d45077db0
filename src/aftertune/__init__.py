"""Aftertune tells you what fine-tuning did to a model's safety, task by task, how sure you can be, and how to mend it."""

__version__ = "0.1.0"
