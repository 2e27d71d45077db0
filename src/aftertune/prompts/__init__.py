"""Behaviors, templates and data sets become prompts; training rows are read, checked and mixed."""
