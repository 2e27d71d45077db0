"""Fine-tuning that a provider does: upload, job, wait, each kept on disk before the next begins."""
