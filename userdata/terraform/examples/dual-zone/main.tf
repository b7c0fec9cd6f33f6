# Two zones, each a datacenter of three servers, joined over the WAN.

provider "aws" {
  region = "eu-central-1"
}

variable "image_id" {
  type = string
}

module "consul" {
  source = "../.."

  name     = "consul"
  image_id = var.image_id
  layout   = "datacenter-per-az"
  zones    = ["eu-central-1a", "eu-central-1b"]
  servers  = 3
}

output "api" {
  value = module.consul.api
}
