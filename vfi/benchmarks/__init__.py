"""Benchmarks: quality on frames that are known.

Every set of frames has a file of its own, which knows where its triplets lie and what was published for it;
triplets.py is what they share. methods.py has the ways to the middle frame, measuring.py the loop over triplets,
results.py keeps what was measured, and report.py shows it as a table and as a page (report.html).
"""

from vfi.benchmarks.middlebury import MIDDLEBURY
from vfi.benchmarks.own import OWN
from vfi.benchmarks.snu_film import SNU_FILM
from vfi.benchmarks.triplets import Benchmark
from vfi.benchmarks.ucf101 import UCF101
from vfi.benchmarks.vimeo90k import VIMEO90K
from vfi.benchmarks.xiph import XIPH

BENCHMARKS: dict[str, Benchmark] = {
    "middlebury": MIDDLEBURY,
    "vimeo90k": VIMEO90K,
    "ucf101": UCF101,
    "snu_film": SNU_FILM,
    "xiph": XIPH,
    "triplets": OWN,
}
