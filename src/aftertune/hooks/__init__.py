"""Hooks into other tools: a callback of trainers, a plug-in of pytest, tasks and scorers of Inspect."""
