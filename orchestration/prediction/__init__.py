"""Classify videos that are in no data set, with the classes of a folder of labelled clips: `hcl predict`."""
