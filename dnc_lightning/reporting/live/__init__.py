"""Runs on screen while they train: `dnc watch`."""
