variable "name" {
  description = "Name of all resources."
  type        = string
  default     = "consul"
}

variable "image_id" {
  description = "Image built with packer/."
  type        = string
}

variable "layout" {
  description = "One datacenter across all zones (single), or one in each zone, joined over the WAN (datacenter-per-az)."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "datacenter-per-az"], var.layout)
    error_message = "The layout is single or datacenter-per-az."
  }
}

variable "zones" {
  description = "Availability zones, at least two."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2
    error_message = "One zone's outage would be the whole cluster's."
  }
}

variable "servers" {
  description = "Servers of each datacenter; an odd number tolerates as many failures as the even number above it."
  type        = number
  default     = 5

  validation {
    condition     = var.servers % 2 == 1
    error_message = "The number of servers is odd: 3 or 5."
  }
}

variable "clients" {
  description = "Number of instances that run only a client."
  type        = number
  default     = 2
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "cidr" {
  description = "CIDR block of the VPC; each zone gets two subnets of it, 8 bits longer."
  type        = string
  default     = "10.0.0.0/16"
}

variable "log_retention" {
  description = "Retention of the logs in CloudWatch, in days."
  type        = number
  default     = 30
}

variable "tags" {
  type    = map(string)
  default = {}
}
