"""Where things run: descriptions of clusters, and how a command is submitted to one."""
