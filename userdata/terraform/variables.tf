variable "name" {
  description = "What everything is called."
  type        = string
  default     = "consul"
}

variable "image_id" {
  description = "The image that packer/ has baked."
  type        = string
}

variable "layout" {
  description = "One datacenter over all zones (single), or one in each zone, joined over the WAN (datacenter-per-az)."
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
  description = "Servers of each datacenter; an odd number survives more than the even one above it."
  type        = number
  default     = 5

  validation {
    condition     = var.servers % 2 == 1
    error_message = "The number of servers is odd: 3 or 5."
  }
}

variable "clients" {
  description = "Instances that only run a client."
  type        = number
  default     = 2
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "cidr" {
  description = "Of the VPC; each zone gets two networks of it, 8 bits longer."
  type        = string
  default     = "10.0.0.0/16"
}

variable "log_retention" {
  description = "Days that CloudWatch keeps the logs."
  type        = number
  default     = 30
}

variable "tags" {
  type    = map(string)
  default = {}
}
