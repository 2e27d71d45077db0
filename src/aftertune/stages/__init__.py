"""The stages between the rooms."""
