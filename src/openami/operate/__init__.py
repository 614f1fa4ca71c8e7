"""A deployment in operation: is it set up right, how does it stand, what does it do, and how is it had back.

configuration.py  everything that is wrong with the settings, with file, line, key and way out
logs.py           the log as JSON lines: meters and frames by name, nothing secret, nobody's name
metrics.py        what Prometheus is told, by role
watch.py          /metrics, /live and /ready of a running role, and its clock against steady time
traces.py         OpenTelemetry, where it is wanted
worker.py         the role that collects and closes, again and again
roles.py          each role with its log, its clock, its figures and its health
together.py       all roles on one machine, each started again when it ends
backup.py         everything that cannot be made again, copied while the roles run
restore.py        a folder made of a backup, and proof that its totals are the same
"""
