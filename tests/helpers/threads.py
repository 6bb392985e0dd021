"""Results that must not depend on the number of threads."""

import torch


def assert_same_for_any_threads(program, counts=(1, 2, 3, 2)):
    """Calls a program with each number of PyTorch's threads, and asserts that all results are equal bit for bit."""
    before = torch.get_num_threads()
    try:
        results = []
        for count in counts:
            torch.set_num_threads(count)
            results.append(program())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)
