"""One module for each driver: its words, and its own pool. No Django here."""
