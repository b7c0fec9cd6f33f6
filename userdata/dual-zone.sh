#!/bin/sh
# Two zones, each a datacenter with its own group, joined over the WAN; DNS by the agent, logs to CloudWatch.
exec consul-bootstrap --layout datacenter-per-az --group consul-a --group consul-b --dns port-53 --log consul --log syslog
