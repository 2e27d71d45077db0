"""Numbers become tables, figures and pages."""
