#!/bin/sh
# Servers discovered by tag: a new group joins the cluster of the old group, and the old group leaves it.
exec consul-bootstrap --tag Name=consul --expect 3 --hostname 'consul-{instance_suffix}' --client-addr private
