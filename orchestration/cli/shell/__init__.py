"""Help a user of a shell: texts of `--help`, completion of names."""
