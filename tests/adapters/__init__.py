"""What adapters know of their databases."""
