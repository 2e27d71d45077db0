"""Guards screen prompts and responses."""
