"""Labels that annotators gave."""
