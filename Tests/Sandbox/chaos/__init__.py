"""Chaos: faults are injected into a real cluster under load, and a checker examines every recorded operation."""
