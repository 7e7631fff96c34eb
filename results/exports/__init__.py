"""Export results to other programs: files, tracking servers, and reproduction checks."""
