#!/bin/sh
# A server of a group; the desired capacity of the group is the number of servers.
exec consul-bootstrap
