"""Video files: which there are, two decoders, deinterlacing, JPEGs."""
