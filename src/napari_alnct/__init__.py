"""Detect, explain and review lung nodules in chest CT.

Research software. Not a medical device, not for diagnosis or treatment.
This module holds the version and nothing else, so that importing it is free.
"""

__version__ = "0.1.0"
