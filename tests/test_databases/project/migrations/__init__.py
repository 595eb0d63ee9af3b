"""The table, and a row that serialized_rollback has to bring back."""
