"""The project's tests. They are the material: another process runs them."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

from django.db import connections
from django.test import LiveServerTestCase, TestCase, TransactionTestCase, tag

from tests.test_databases.project.models import Thing

# So that nobody is lucky: what a thread leaves behind stays until it is looked for.
gc.disable()


def names(alias: str = "default") -> list[str]:
    return list(Thing.objects.using(alias).values_list("name", flat=True))


class InTransactions(TestCase):
    """Two of them, so that each would see what the other leaves behind."""

    @classmethod
    def setUpTestData(cls) -> None:
        Thing.objects.create(name="of the class")

    def test_one(self) -> None:
        Thing.objects.create(name="one")
        assert names()[-2:] == ["of the class", "one"]

    def test_another(self) -> None:
        Thing.objects.create(name="another")
        assert names()[-2:] == ["of the class", "another"]


@tag("fresh")
class WithSerializedRollback(TransactionTestCase):
    """Each begins with what was there at first, and empties the table.

    In a database that was kept, what the migrations wrote is gone.
    """

    serialized_rollback = True

    def test_one(self) -> None:
        assert names() == ["first"]

    def test_another(self) -> None:
        assert names() == ["first"]


class InThreads(TransactionTestCase):
    """Threads of the test's own, which do not close what they open."""

    def test_they_see_the_test_database(self) -> None:
        Thing.objects.create(name="for all")
        seen: list[str] = []
        threads = [
            threading.Thread(target=lambda: seen.extend(names()[-1:])) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == ["for all"] * 3


class WithMirror(TransactionTestCase):
    """The replica is the same test database, over a connection of its own."""

    databases = {"default", "replica"}  # noqa: RUF012 (the name is Django's)

    def test_it_sees_what_is_committed(self) -> None:
        Thing.objects.create(name="to be copied")
        assert names("replica")[-1] == "to be copied"
        assert connections["default"] is not connections["replica"]


class WithMirrorInTransactions(TestCase):
    """Django begins no transaction on a mirror, and leaves its connection open."""

    databases = {"default", "replica"}  # noqa: RUF012 (the name is Django's)

    def test_it_does_not_see_what_is_not_committed(self) -> None:
        Thing.objects.create(name="not copied")
        assert "not copied" not in names("replica")


class Live(LiveServerTestCase):
    """A server in a thread, which answers each request in one more."""

    def test_it_answers_several_at_once(self) -> None:
        Thing.objects.create(name="served")

        def get(_number: int) -> str:
            with urlopen(self.live_server_url, timeout=30) as answer:
                text: str = answer.read().decode()
            return text

        with ThreadPoolExecutor(4) as clients:
            answers = set(clients.map(get, range(8)))
        assert {answer.split()[-1] for answer in answers} == {"served"}
