"""Checkers of lesson 01: `from gb10.check import lesson01 as check`."""

from gb10.check.lesson01.fits import available_gib, kv_bytes, max_users, weight_gib
from gb10.check.lesson01.speed import bytes_read, possible, ridge_tokens

__all__ = ["available_gib", "bytes_read", "kv_bytes", "max_users", "possible", "ridge_tokens", "weight_gib"]
