"""The whole system: `stages` has the stages in order on one screen; the other files are their parts and the commands."""
