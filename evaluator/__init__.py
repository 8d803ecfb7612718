"""The program that runs a model where it can do no harm.

It imports nothing of Signoff's: `evaluator.jail` needs only Python itself, `evaluator.predict` what the model needs.
"""
