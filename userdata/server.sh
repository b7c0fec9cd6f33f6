#!/bin/sh
# A server of a group; the group's desired capacity says how many there are.
exec consul-bootstrap
