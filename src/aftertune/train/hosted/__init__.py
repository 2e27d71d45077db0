"""Fine-tuning that a provider does: one file for the job's state and steps, one for each provider."""
