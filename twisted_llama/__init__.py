"""
A Twisted gateway in front of llama.cpp's C{llama-server}.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
