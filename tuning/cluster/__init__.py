"""Ray and its nodes: sessions, cluster addresses, cluster files.

The modules import Ray, so they are imported by their full names.
"""
