#!/bin/sh
# Five servers in one Auto Scaling group; all join the lowest address.
exec consul-bootstrap --expect 5 --join leader --ui --client-addr private
