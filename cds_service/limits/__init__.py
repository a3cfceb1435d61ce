"""Limits: how much time, memory and how many calls at once one request and one client may take."""
