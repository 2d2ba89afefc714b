"""Measures music and compares sets of it. Run it as `python -m midinet.report`."""
