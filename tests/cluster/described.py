"""Define cluster descriptions for tests."""

from __future__ import annotations

from cluster.description import Description, Nodes, Storage

GPU = Nodes(count=4, gpus=8, cpus=96, memory_gib=768, machine="p4d.24xlarge")

CPU = Nodes(count=2, cpus=16, machine="c6i.4xlarge")

HEAD = Nodes(cpus=4, machine="m6i.xlarge")

AMI = "ami-0123456789abcdef0"

STORAGE = Storage(path="/shared", server="fs-1.example:/")

WHOLE = Description(gpu=GPU, cpu=CPU, head=HEAD, storage=STORAGE, ami=AMI)
