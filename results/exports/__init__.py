"""Results for other programs: files, tracking servers, and whether a result was reproduced."""
