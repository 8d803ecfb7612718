"""Checks an export of Signoff's ledger with the standard library and ``cryptography``; imports nothing of Signoff.

Copy this folder to a machine of your own, with the public key you were given, and run
``python -m verifier FILE --public-key FILE``.
"""
