"""Hosts whose switch is kept in memory: for pools larger than this machine, and for trying what a change would do.

The API server, the rules and the rollouts are the real ones. What is simulated is the host daemon: it answers the same
protocol, plans with the same `diff`, confirms and goes back by the same timers, and has nothing beneath it.
"""
