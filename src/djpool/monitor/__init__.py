"""How a process shows its pools' figures to others of its project, and takes orders.

Each process that has pools listens on a Unix socket of its own, in a folder that
only its user may enter (`place`). It answers one line with one line (`protocol`,
`serve`, `publish`); `read` asks all of them. Nothing is written from time to time,
so figures are those of the moment of the question, and an idle process costs nothing.

Orders come the same way, from the process's own user or root: `order` sends them to
all. What they do is not known here; who has pools hands in a function for each.
"""
