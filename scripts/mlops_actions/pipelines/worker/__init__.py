"""The process that holds the KFP SDK: it compiles pipelines and runs them with kfp.local.

It runs in the consumer's environment, so it uses the standard library and kfp alone.
"""
