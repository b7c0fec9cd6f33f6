#!/bin/sh
# Servers found by a tag: a new group beside the old one joins its cluster, and the old one leaves it.
exec consul-bootstrap --tag Name=consul --expect 3 --hostname 'consul-{instance_suffix}'
