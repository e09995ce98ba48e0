"""Helpers for the tests of services and plug-ins: real relays, real databases, no mocks."""
