"""Ray and its nodes: a session of it, a cluster's address, its launcher file.

All of them bring Ray with them, and are imported by their full names.
"""
