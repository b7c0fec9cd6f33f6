output "api" {
  description = "Consul's HTTP API from inside the VPC."
  value       = "http://${aws_lb.api.dns_name}:8500"
}

output "client_security_group_id" {
  description = "Security group for your own instances that run a client."
  value       = aws_security_group.clients.id
}

output "server_groups" {
  description = "Value of --group for clients."
  value       = [for group in aws_autoscaling_group.servers : group.name]
}
