"""Neutral charts as figures of a plotting library, one module for each."""
