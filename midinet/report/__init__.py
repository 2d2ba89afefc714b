"""Measures music and compares sets of it: `python -m midinet.report`."""
