# Access to the HTTP API from inside the VPC.

resource "aws_lb" "api" {
  name_prefix        = "consul"
  internal           = true
  load_balancer_type = "application"
  subnets            = [for subnet in aws_subnet.private : subnet.id]
  security_groups    = [aws_security_group.load_balancer.id]
  tags               = var.tags
}

resource "aws_lb_target_group" "api" {
  name_prefix = "consul"
  vpc_id      = aws_vpc.this.id
  protocol    = "HTTP"
  port        = 8500
  tags        = var.tags

  health_check {
    path                = "/v1/status/leader"
    matcher             = "200"
    interval            = 10
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "api" {
  load_balancer_arn = aws_lb.api.arn
  protocol          = "HTTP"
  port              = 8500

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.api.arn
  }
}
