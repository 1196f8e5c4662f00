"""Models as files: which kind one is, how it is loaded, and how it is asked.

What runs in a model's own environment (`kinds`, `predicting`, `tensors`) imports the standard library alone, and a
library of models only where one is loaded.
"""
