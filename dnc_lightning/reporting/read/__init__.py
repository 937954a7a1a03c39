"""What a run says, read from its records."""
