"""Reading how loaded a backend is: one module for each source.

`Loads.read` gives the raw reading, in the source's unit; `markway.balance.feedback` makes weights of it.
"""

from markway.director.loads.reader import Loads

__all__ = ["Loads"]
