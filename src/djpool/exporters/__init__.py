"""The figures of pools in the words of other people's monitoring."""
