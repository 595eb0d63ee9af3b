"""What `manage.py` can do with pools."""
