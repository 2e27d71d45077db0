"""The nouns of Aftertune: records, ids, outcomes, Protocols and the registry.

Standard library only, so that every other room can import it for nothing.
"""
