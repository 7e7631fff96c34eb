"""Film Meta-World's manipulation tasks: one video is a function of seed, class and number, without Ray."""
