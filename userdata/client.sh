#!/bin/sh
# A client of the servers in group consul.
exec consul-bootstrap --role client --group consul
