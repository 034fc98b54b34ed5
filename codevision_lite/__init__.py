"""CodeVision on one workstation GPU: a vision-language model that writes Python to repair and inspect pictures.

Start with ``codevision-lite --help`` or the README. Nothing is imported here: each part loads what it needs.
"""

__version__ = "0.1.0"
