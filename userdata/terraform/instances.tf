# The instances. The first server creates the gossip key, and the record of the cluster: its path has the id of the VPC,
# so that a module that is created again starts with a new record.

locals {
  # One group across all zones, or one for each zone.
  group_zones = var.layout == "single" ? tomap({ all = var.zones }) : tomap({ for zone in var.zones : zone => tolist([zone]) })
  server_groups = {
    for key, zones in local.group_zones : key => {
      name    = key == "all" ? "${var.name}-servers" : "${var.name}-servers-${key}"
      subnets = [for zone in zones : aws_subnet.private[zone].id]
    }
  }

  layout_options = var.layout == "single" ? "" : "--layout datacenter-per-az "
  group_options  = join(" ", [for group in local.server_groups : "--group ${group.name}"])
  log_options    = "--log consul --log bootstrap --log-group ${local.log_group}"

  server_user_data = <<-EOT
    #!/bin/sh
    exec consul-bootstrap ${local.layout_options}${local.group_options} --lifecycle-hook launching --termination-hook terminating --client-addr private --cluster-record ssm:${local.record} --gossip-key-create ssm:${local.gossip} ${local.log_options}
  EOT

  client_user_data = <<-EOT
    #!/bin/sh
    exec consul-bootstrap --role client ${local.layout_options}${local.group_options} --termination-hook terminating --gossip-key ssm:${local.gossip} ${local.log_options}
  EOT
}

resource "aws_cloudwatch_log_group" "this" {
  name              = local.log_group
  retention_in_days = var.log_retention
  tags              = var.tags
}

resource "aws_launch_template" "servers" {
  name_prefix                          = "${var.name}-servers-"
  image_id                             = var.image_id
  instance_type                        = var.instance_type
  user_data                            = base64encode(local.server_user_data)
  vpc_security_group_ids               = [aws_security_group.servers.id]
  update_default_version               = true
  instance_initiated_shutdown_behavior = "terminate"
  tags                                 = var.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.servers.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }
}

resource "aws_launch_template" "clients" {
  name_prefix                          = "${var.name}-clients-"
  image_id                             = var.image_id
  instance_type                        = var.instance_type
  user_data                            = base64encode(local.client_user_data)
  vpc_security_group_ids               = [aws_security_group.clients.id]
  update_default_version               = true
  instance_initiated_shutdown_behavior = "terminate"
  tags                                 = var.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.clients.arn
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
  }
}

# A launch succeeds once consul-bootstrap has verified it; otherwise Auto Scaling replaces the instance. The termination
# hook holds an instance until it has left the cluster; a server that cannot leave safely is retained, not terminated.
# Every replacement launches first. A new template replaces one server after another, and waits after the first.

resource "aws_autoscaling_group" "servers" {
  for_each = local.server_groups

  name                      = each.value.name
  vpc_zone_identifier       = each.value.subnets
  min_size                  = var.servers
  max_size                  = var.servers + 1
  desired_capacity          = var.servers
  health_check_type         = "EC2"
  health_check_grace_period = 300
  target_group_arns         = [aws_lb_target_group.api.arn]
  wait_for_capacity_timeout = "15m"

  launch_template {
    id      = aws_launch_template.servers.id
    version = aws_launch_template.servers.latest_version
  }

  initial_lifecycle_hook {
    name                 = "launching"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
    default_result       = "ABANDON"
    heartbeat_timeout    = 900
  }

  initial_lifecycle_hook {
    name                 = "terminating"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    default_result       = "ABANDON"
    heartbeat_timeout    = 300
  }

  instance_lifecycle_policy {
    retention_triggers {
      terminate_hook_abandon = "retain"
    }
  }

  instance_maintenance_policy {
    min_healthy_percentage = 100
    max_healthy_percentage = 120
  }

  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage       = 100
      max_healthy_percentage       = 120
      instance_warmup              = 60
      checkpoint_percentages       = [20, 100]
      checkpoint_delay             = 600
      auto_rollback                = true
      skip_matching                = true
      scale_in_protected_instances = "Refresh"
    }
  }

  tag {
    key                 = "Name"
    value               = each.value.name
    propagate_at_launch = true
  }

  depends_on = [aws_route_table_association.private, aws_iam_role_policy.servers, aws_cloudwatch_log_group.this]
}

resource "aws_autoscaling_group" "clients" {
  name                      = "${var.name}-clients"
  vpc_zone_identifier       = [for subnet in aws_subnet.private : subnet.id]
  min_size                  = var.clients
  max_size                  = max(var.clients * 2, 1)
  desired_capacity          = var.clients
  health_check_type         = "EC2"
  health_check_grace_period = 300

  launch_template {
    id      = aws_launch_template.clients.id
    version = aws_launch_template.clients.latest_version
  }

  initial_lifecycle_hook {
    name                 = "terminating"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    default_result       = "CONTINUE"
    heartbeat_timeout    = 300
  }

  instance_refresh {
    strategy = "Rolling"
  }

  tag {
    key                 = "Name"
    value               = "${var.name}-clients"
    propagate_at_launch = true
  }

  depends_on = [aws_route_table_association.private, aws_iam_role_policy.clients, aws_cloudwatch_log_group.this]
}
