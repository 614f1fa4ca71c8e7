"""The demo: a simulated town's days through the whole house, judged against what was planted.

run.py     builds the town's data folder, starts the head-end as its own process, lets the fleet push, closes the days
asked.py   meters that answer when they are asked: gaps filled, midnight registers
supplied.py   low balances told, cuts that the guard refuses or allows, relays that open, payments, light; carrier.py: whose phones are reached
judge.py   compares what the house found with what was planted; gives one report, the same for the same seed; darkness.py: of outages
table.py   the report as a table for people
"""
