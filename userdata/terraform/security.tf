# Allowed traffic (Consul documentation, "Required Ports"). No access from outside; shells through Session Manager.

resource "aws_security_group" "servers" {
  name_prefix = "${var.name}-servers-"
  description = "Consul servers"
  vpc_id      = aws_vpc.this.id
  tags        = merge(var.tags, { Name = "${var.name}-servers" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "clients" {
  name_prefix = "${var.name}-clients-"
  description = "Consul clients"
  vpc_id      = aws_vpc.this.id
  tags        = merge(var.tags, { Name = "${var.name}-clients" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "load_balancer" {
  name_prefix = "${var.name}-api-"
  description = "Access to the HTTP API of the Consul servers"
  vpc_id      = aws_vpc.this.id
  tags        = merge(var.tags, { Name = "${var.name}-api" })

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  ingress = {
    servers_from_servers_rpc     = { to = "servers", from = "servers", protocol = "tcp", port = 8300 }
    servers_from_servers_lan_tcp = { to = "servers", from = "servers", protocol = "tcp", port = 8301 }
    servers_from_servers_lan_udp = { to = "servers", from = "servers", protocol = "udp", port = 8301 }
    servers_from_clients_rpc     = { to = "servers", from = "clients", protocol = "tcp", port = 8300 }
    servers_from_clients_lan_tcp = { to = "servers", from = "clients", protocol = "tcp", port = 8301 }
    servers_from_clients_lan_udp = { to = "servers", from = "clients", protocol = "udp", port = 8301 }
    servers_from_load_balancer   = { to = "servers", from = "load_balancer", protocol = "tcp", port = 8500 }
    clients_from_servers_lan_tcp = { to = "clients", from = "servers", protocol = "tcp", port = 8301 }
    clients_from_servers_lan_udp = { to = "clients", from = "servers", protocol = "udp", port = 8301 }
    clients_from_clients_lan_tcp = { to = "clients", from = "clients", protocol = "tcp", port = 8301 }
    clients_from_clients_lan_udp = { to = "clients", from = "clients", protocol = "udp", port = 8301 }
  }

  ingress_wan = {
    servers_from_servers_wan_tcp = { to = "servers", from = "servers", protocol = "tcp", port = 8302 }
    servers_from_servers_wan_udp = { to = "servers", from = "servers", protocol = "udp", port = 8302 }
  }

  security_groups = {
    servers       = aws_security_group.servers.id
    clients       = aws_security_group.clients.id
    load_balancer = aws_security_group.load_balancer.id
  }
}

resource "aws_vpc_security_group_ingress_rule" "inside" {
  for_each = merge(local.ingress, { for key, rule in local.ingress_wan : key => rule if var.layout != "single" })

  security_group_id            = local.security_groups[each.value.to]
  referenced_security_group_id = local.security_groups[each.value.from]
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.port
  to_port                      = each.value.port
  description                  = replace(each.key, "_", " ")
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  security_group_id = aws_security_group.load_balancer.id
  cidr_ipv4         = var.cidr
  ip_protocol       = "tcp"
  from_port         = 8500
  to_port           = 8500
  description       = "HTTP API from inside the VPC"
}

resource "aws_vpc_security_group_egress_rule" "all" {
  for_each = local.security_groups

  security_group_id = each.value
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}
