"""The engine `local`: tasks are processes (or containers) of this machine, in the order and with the values that KFP's
backend would give them.
"""

from .engine import LocalEngine

__all__ = ["LocalEngine"]
