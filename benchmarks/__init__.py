"""Benchmarks of quantstats; `python -m benchmarks` measures the kernels and compares them with their gates."""
