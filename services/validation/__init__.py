"""Candidate and champion on the same holdout: read and checked, run in isolation, compared with honest statistics."""
