"""What is done to a network, a file for each technique, found by `core.settings.techniques`.

A file declares its settings, what it does to a network, what it needs to know, what a search may choose of it, and its
words. What is declared is read before torch is there: what a technique works with is imported where it works.
"""
