"""Engines: each turns token ids into a `Generation`, a list of `Step` records, over one OpenVINO back end."""
