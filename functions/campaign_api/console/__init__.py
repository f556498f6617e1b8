"""The console: pages for people, made of the API's own answers.

It asks the API in process (`api_calls`: an event in, an answer out), so that there is one implementation of each rule.
It reads and writes no table but those of its sessions, through `sendledger.access`.

May import: api_requests, api_resources, http_errors, route_table, sendledger.access, sendledger.core.
"""
