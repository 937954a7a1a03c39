"""Neutral pictures: values that no plotting library has a say in."""
