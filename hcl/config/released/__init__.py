"""Translate command lines of the released code into experiments."""
