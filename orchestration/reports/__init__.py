"""Use records: pages, tracking servers, reproductions."""
