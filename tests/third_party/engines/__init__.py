"""What a project would write to pool a backend of somebody else's."""
