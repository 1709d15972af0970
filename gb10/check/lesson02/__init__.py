"""Checkers of lesson 02, NVFP4 math: one module per notebook."""
