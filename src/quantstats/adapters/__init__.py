"""Adapters: how the driver sees the models of a framework. Each is imported only when a model of its kind comes in."""
