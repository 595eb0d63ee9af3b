"""Django's tests, which are in its source archive and not in what pip installs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

CACHE = Path(__file__).parents[2] / ".cache"


def tests_directory() -> Path:
    """Django's own tests, of the release that is installed; fetched if need be."""
    version = django.get_version()
    place = CACHE / f"django-{version}"
    if not place.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            _unpack(_download(version, folder), folder)
            # All at once, so that an interrupted run leaves nothing half done.
            (unpacked,) = (path for path in Path(folder).iterdir() if path.is_dir())
            unpacked.rename(place)
    return place / "tests"


def _download(version: str, folder: str) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    release = ["--no-binary=Django", f"--dest={folder}", f"Django=={version}"]
    subprocess.run([*pip, *release], check=True)
    (archive,) = Path(folder).glob("*.tar.gz")
    return archive


def _unpack(archive: Path, folder: str) -> None:
    with tarfile.open(archive) as packed:
        # Which not every Python that is 3.11 has.
        if hasattr(tarfile, "data_filter"):
            packed.extraction_filter = tarfile.data_filter
        packed.extractall(folder)
