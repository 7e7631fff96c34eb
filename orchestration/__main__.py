"""`python -m orchestration ...`: the command line of the code in the working folder, as a job on a cluster runs it."""

from orchestration.cli import main

main()
