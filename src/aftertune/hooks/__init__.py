"""Where others run what is ours."""
