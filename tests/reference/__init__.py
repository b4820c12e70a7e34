"""Executable definitions that the tests compare with: slow, plain, and independent of the code under test."""
