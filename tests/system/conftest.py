import csv
import shutil
import tempfile
from pathlib import Path

import pytest
from harness import REPOSITORY, Cluster


@pytest.fixture(scope="module")
def make_cluster():
    """Starts clusters that stop, and whose folders go, after the module's last test."""
    started = []

    def make(**options) -> Cluster:
        started.append(cluster := Cluster(Path(tempfile.mkdtemp(prefix="understudy-test-")), **options))
        cluster.start()
        return cluster

    yield make
    for cluster in started:
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def reviews():
    with (REPOSITORY / "demo/reviews.csv").open(newline="") as file:
        return [row["review"] for row in csv.DictReader(file)]
