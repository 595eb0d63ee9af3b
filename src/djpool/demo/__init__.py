"""`python -m djpool demo`: a site under load, and its connections counted."""
