"""Tasks shared out to workers: lost workers and machines, failing tasks, machines that differ."""

import itertools
import os

import pytest

pytest.importorskip("ray")

from helpers.crews import IDENTITY, Doubling, two_nodes
from helpers.videos import ROOT

from vfi.cluster.crew import Crew
from vfi.cluster.machines import CPUS_OF_A_WORKER, Machines, on_cluster
from vfi.errors import DataError


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests"))))
        with two_nodes() as cluster:
            yield cluster


@pytest.fixture
def double(cluster, tmp_path):
    """Doubles the numbers up to 20 by a crew; returns the results, and what was said."""

    def double(faults=None, identity=IDENTITY, on_result=lambda result: None):
        said, results = [], []
        with on_cluster(cluster.address, None) as machines:
            arguments = (faults or {}, str(tmp_path), identity)
            crew = Crew(machines, Doubling, arguments, IDENTITY, "number", said.append, said.append)
            for result in crew.run(iter(range(20))):
                results.append(result)
                on_result(result)
        return sorted(results), said

    return double


ALL = [2 * number for number in range(20)]


def test_all_machines_share_the_tasks(double):
    results, said = double()
    assert results == ALL
    assert sum("starts, with 1 threads" in phrase for phrase in said) == 2


def test_tasks_of_lost_workers_are_done_again(double):
    results, said = double({3: "dies once", 4: "dies once", 12: "dies once"})
    assert results == ALL
    assert sum("is lost" in phrase for phrase in said) == 3


@pytest.mark.parametrize(
    ("fault", "cause"), [("fails", "number 7 cannot be doubled"), ("dies", "its worker died, as when memory")]
)
def test_a_task_that_fails_everywhere_ends_the_work(fault, cause, double):
    with pytest.raises(DataError, match=rf"^number 7 failed 3 times \([\d., ]+\): {cause}[^\n]*$"):
        double({7: fault})


def test_machines_that_differ_are_not_used(double):
    with pytest.raises(DataError, match=r"^no machine can be used: .*\(its weights is b, here a\)[^\n]*$"):
        double(identity=IDENTITY | {"weights": "b"})


def test_a_machine_goes_and_another_comes(double, cluster):
    counter = itertools.count()

    def change(result):
        if next(counter) == 3:
            cluster.remove_node(cluster.second)
            cluster.second = cluster.add_node(num_cpus=1)

    results, _ = double(on_result=change)
    assert results == ALL


@pytest.mark.parametrize(
    ("workers", "sizes", "counts"),
    [
        (None, [(2, 0), (16, 0)], [1, 16 // CPUS_OF_A_WORKER]),
        (None, [(16, 2), (16, 0)], [2, 0]),
        (3, [(2, 0), (2, 0)], [2, 1]),
        (9, [(2, 0), (2, 0)], [2, 2]),
        (4, [(8, 2), (8, 0)], [4, 0]),
    ],
)
def test_how_many_workers_a_machine_gets(workers, sizes, counts):
    has_gpus = any(gpus for _, gpus in sizes)
    assert Machines(workers)._counts(sizes, has_gpus) == counts
