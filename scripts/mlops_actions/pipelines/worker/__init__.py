"""What runs in the consumer's environment: the compiler of pipelines, and one task. Standard library and kfp alone."""
