"""What pages and the command line ask for, and the cache behind it."""
