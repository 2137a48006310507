"""Benchmarks that ship with nextswipe: every figure in the documentation comes out of one."""
