"""What harms a workspace from outside: kills, damaged files, full disks, two programs at once, a server that dies.

A short part with fixed seeds runs with the other tests. The long part is for a person with time:

    python -m pytest tests/chaos -m long --rounds 30
"""
