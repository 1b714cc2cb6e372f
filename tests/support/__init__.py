"""Helpers that several tests share: studies, the command line, servers, clusters, kills, and the catalogue of mistakes."""
