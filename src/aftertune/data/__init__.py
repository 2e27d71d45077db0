"""Data: training rows, the mix of safety rows into them, prompt sets, and the overlap between the two."""
