"""Records put to use: pages, tracking servers, results made again."""
