"""Exercise checkers, one file per lesson: `from gb10.check import lesson03 as check`, then `check.NAME(your_function)`.

A checker answers with a verdict and never with a traceback: not attempted, not yet, or correct.
"""
