"""Datasets of the user: add a version, look into it, compare two, and find a record in them.

A run finds its dataset by `src.training.dataset`.
"""
