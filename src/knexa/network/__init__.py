"""Agents and matchmaker as processes of separate organisations: gRPC with mutual TLS."""
