"""The site that the demo puts under load: a Django project of its own."""

# Its settings come in environment variables: `DATABASES["default"]` as JSON, and the
# name of its one table.
DATABASE_VARIABLE = "DJPOOL_DEMO_DATABASE"
TABLE_VARIABLE = "DJPOOL_DEMO_TABLE"

# The paths that the load consists of, one for each kind of view; and the one where
# the site tells its figures.
LOAD = ("/in_a_thread/", "/in_the_loop/", "/gathered/", "/streamed/")
FIGURES = "/figures/"
