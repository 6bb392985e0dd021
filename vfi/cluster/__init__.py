"""Work shared out to many processes, on this machine or on a cluster, by Ray (the extra `cluster`).

machines.py  starts Ray on this machine, or connects to a cluster; the machines, and how many workers each gets
crew.py      workers and their tasks; what is lost with a worker or a machine is done again elsewhere
identity.py  what has to be the same on all machines
sources.py   how a source gets to machines that do not see its path
videos.py    a worker that makes parts of a video
triplets.py  a worker that measures triplets of a benchmark
"""
