"""Figures for papers, and pictures for loggers."""
