#!/bin/sh
# A client with a microservice that is registered in Consul with a health check.
systemd-run --quiet --unit=quotes --property=Restart=always --property=DynamicUser=true python3 -m http.server 5000 --directory /srv
echo '{"service": {"name": "quotes", "port": 5000, "check": {"http": "http://127.0.0.1:5000/", "interval": "5s"}}}' > /etc/consul.d/quotes.json
exec consul-bootstrap --role client --group consul
