"""Checkers of lesson 02, notebook 3 (How good is it?): `from gb10.check.lesson02 import quality as check`."""

from gb10.check.lesson02.decibels import combined_db, relative_error, snr_db
from gb10.check.lesson02.repairs import better_scale, through_rotation

__all__ = ["better_scale", "combined_db", "relative_error", "snr_db", "through_rotation"]
