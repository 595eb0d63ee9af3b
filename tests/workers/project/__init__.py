"""A project whose tasks write down who ran them, for every kind of worker."""

# Numbers of no task, for what Celery's main process writes down when it begins, before
# it forks, and when it ends.
FIRST, LAST = -2, -1
