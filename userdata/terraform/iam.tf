# Permissions of the instances: the output of consul-bootstrap iam-policy for the options of their user-data.

locals {
  arn            = "arn:${data.aws_partition.current.partition}"
  place          = "${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}"
  gossip         = "/consul/${var.name}/gossip"
  record         = "/consul/${var.name}/cluster/${aws_vpc.this.id}"
  record_arn     = "${local.arn}:ssm:${local.place}:parameter${local.record}/*"
  log_group      = "/consul/${var.name}"
  gossip_arn     = "${local.arn}:ssm:${local.place}:parameter${local.gossip}"
  log_group_arns = ["${local.arn}:logs:${local.place}:log-group:${local.log_group}", "${local.arn}:logs:${local.place}:log-group:${local.log_group}:*"]
}

data "aws_iam_policy_document" "ec2" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "servers" {
  statement {
    sid       = "DiscoverServers"
    actions   = ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLifecycleHooks", "ec2:DescribeInstances"]
    resources = ["*"]
  }

  statement {
    sid       = "CompleteLifecycleHook"
    actions   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
    resources = [for group in local.server_groups : "${local.arn}:autoscaling:${local.place}:autoScalingGroup:*:autoScalingGroupName/${group.name}"]
  }

  statement {
    sid       = "ReadParameters"
    actions   = ["ssm:GetParameter"]
    resources = [local.gossip_arn, local.record_arn]
  }

  statement {
    sid       = "CreateParameters"
    actions   = ["ssm:PutParameter"]
    resources = [local.gossip_arn, local.record_arn]
  }

  statement {
    sid       = "ListClusterRecord"
    actions   = ["ssm:GetParametersByPath"]
    resources = [local.record_arn]
  }

  statement {
    sid       = "ForwardLogs"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    resources = local.log_group_arns
  }
}

data "aws_iam_policy_document" "clients" {
  statement {
    sid       = "DiscoverServers"
    actions   = ["autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLifecycleHooks", "ec2:DescribeInstances"]
    resources = ["*"]
  }

  statement {
    sid       = "CompleteLifecycleHook"
    actions   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
    resources = ["${local.arn}:autoscaling:${local.place}:autoScalingGroup:*:autoScalingGroupName/*"]
  }

  statement {
    sid       = "ReadParameters"
    actions   = ["ssm:GetParameter"]
    resources = [local.gossip_arn]
  }

  statement {
    sid       = "ForwardLogs"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    resources = local.log_group_arns
  }
}

resource "aws_iam_role" "servers" {
  name_prefix        = "${var.name}-servers-"
  assume_role_policy = data.aws_iam_policy_document.ec2.json
  tags               = var.tags
}

resource "aws_iam_role" "clients" {
  name_prefix        = "${var.name}-clients-"
  assume_role_policy = data.aws_iam_policy_document.ec2.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "servers" {
  name   = "consul-bootstrap"
  role   = aws_iam_role.servers.id
  policy = data.aws_iam_policy_document.servers.json
}

resource "aws_iam_role_policy" "clients" {
  name   = "consul-bootstrap"
  role   = aws_iam_role.clients.id
  policy = data.aws_iam_policy_document.clients.json
}

resource "aws_iam_instance_profile" "servers" {
  name_prefix = "${var.name}-servers-"
  role        = aws_iam_role.servers.name
}

resource "aws_iam_instance_profile" "clients" {
  name_prefix = "${var.name}-clients-"
  role        = aws_iam_role.clients.name
}
