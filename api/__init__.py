"""REST under ``/api/v1``: a third door onto the same verbs, for scripts and for the command line.

It turns a request into a domain call and a domain answer into JSON, and decides nothing.
"""
