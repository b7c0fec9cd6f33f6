output "api" {
  description = "Consul's HTTP API, from inside the VPC."
  value       = "http://${aws_lb.api.dns_name}:8500"
}

output "client_security_group_id" {
  description = "For instances of your own that run a client."
  value       = aws_security_group.clients.id
}

output "server_groups" {
  description = "What clients name with --group."
  value       = [for group in aws_autoscaling_group.servers : group.name]
}
