"""Decides who may write a KB and who may ask a host now: leases, and the limits of hosts that runs share."""
