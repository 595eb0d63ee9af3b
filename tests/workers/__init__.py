"""Task queues with their real workers, each in processes of its own."""
