"""One page, which asks the database."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.test_databases.project.models import Thing


def names(request: HttpRequest) -> HttpResponse:
    """The names of all things."""
    return HttpResponse(" ".join(Thing.objects.values_list("name", flat=True)))


urlpatterns = [path("", names)]
