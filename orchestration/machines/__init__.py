"""Ray, nodes and storage: how work is spread, what each machine has, what a job needs."""
