# Five servers across three zones, one datacenter.

provider "aws" {
  region = "eu-west-1"
}

variable "image_id" {
  type = string
}

module "consul" {
  source = "../.."

  name     = "consul"
  image_id = var.image_id
  zones    = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
  servers  = 5
}

output "api" {
  value = module.consul.api
}
