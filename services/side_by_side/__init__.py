"""Versions side by side: the numbers, everything else that differs, and what one may conclude."""
