"""The library of Blackwell at Your Desk: what the lessons, the appendix and the tests share.

Importing it is cheap (no torch, no numpy): every room is imported when it is first needed.
"""

__version__ = "0.1.0"
