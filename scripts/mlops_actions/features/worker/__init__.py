"""The process that holds Feast: it plans, applies, materializes and reads back one repository.

It runs in the consumer's environment, so it uses the standard library, Feast, and what Feast itself needs.
"""
