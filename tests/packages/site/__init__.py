"""A small project that has one other package installed, and pages that query."""
