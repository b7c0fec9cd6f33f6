# Builds an AMI with Consul and consul-bootstrap: packer build packer
# Amazon Linux 2023, Ubuntu 24.04 and Debian 12, amd64 and arm64; pick with -only='*.debian-amd64'.

variable "region" {
  type        = string
  description = "Region in which the image is built and stored."
  default     = "eu-west-1"
}

variable "consul_version" {
  type        = string
  description = "Consul release; verified against the published checksums and their signature."
  default     = "1.20.2"
}

variable "binary_amd64" {
  type        = string
  description = "The static binary for amd64: make static."
  default     = ".build/static/consul-bootstrap"
}

variable "binary_arm64" {
  type        = string
  description = "The static binary for arm64: make static on an arm64 machine."
  default     = ".build/static/consul-bootstrap-arm64"
}

variable "name" {
  type        = string
  description = "Prefix of the image names."
  default     = "consul"
}

variable "subnet_id" {
  type        = string
  description = "Subnet of the build instances; empty for the default VPC."
  default     = ""
}

locals {
  stamp = regex_replace(timestamp(), "[- TZ:]", "")
  tags = {
    Name          = var.name
    ConsulVersion = var.consul_version
    BuiltBy       = "packer"
  }
}

source "amazon-ebs" "consul" {
  region        = var.region
  subnet_id     = var.subnet_id
  tags          = local.tags
  snapshot_tags = local.tags
}

build {
  source "amazon-ebs.consul" {
    name          = "amazon-linux-amd64"
    ami_name      = "${var.name}-${var.consul_version}-al2023-amd64-${local.stamp}"
    instance_type = "t3.small"
    ssh_username  = "ec2-user"
    source_ami_filter {
      filters     = { name = "al2023-ami-2023.*-x86_64", virtualization-type = "hvm", root-device-type = "ebs" }
      owners      = ["amazon"]
      most_recent = true
    }
  }

  source "amazon-ebs.consul" {
    name          = "amazon-linux-arm64"
    ami_name      = "${var.name}-${var.consul_version}-al2023-arm64-${local.stamp}"
    instance_type = "t4g.small"
    ssh_username  = "ec2-user"
    source_ami_filter {
      filters     = { name = "al2023-ami-2023.*-arm64", virtualization-type = "hvm", root-device-type = "ebs" }
      owners      = ["amazon"]
      most_recent = true
    }
  }

  source "amazon-ebs.consul" {
    name          = "ubuntu-amd64"
    ami_name      = "${var.name}-${var.consul_version}-ubuntu24.04-amd64-${local.stamp}"
    instance_type = "t3.small"
    ssh_username  = "ubuntu"
    source_ami_filter {
      filters     = { name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*", virtualization-type = "hvm", root-device-type = "ebs" }
      owners      = ["099720109477"]
      most_recent = true
    }
  }

  source "amazon-ebs.consul" {
    name          = "ubuntu-arm64"
    ami_name      = "${var.name}-${var.consul_version}-ubuntu24.04-arm64-${local.stamp}"
    instance_type = "t4g.small"
    ssh_username  = "ubuntu"
    source_ami_filter {
      filters     = { name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64-server-*", virtualization-type = "hvm", root-device-type = "ebs" }
      owners      = ["099720109477"]
      most_recent = true
    }
  }

  source "amazon-ebs.consul" {
    name          = "debian-amd64"
    ami_name      = "${var.name}-${var.consul_version}-debian12-amd64-${local.stamp}"
    instance_type = "t3.small"
    ssh_username  = "admin"
    source_ami_filter {
      filters     = { name = "debian-12-amd64-*", virtualization-type = "hvm", root-device-type = "ebs" }
      owners      = ["136693071363"]
      most_recent = true
    }
  }

  source "amazon-ebs.consul" {
    name          = "debian-arm64"
    ami_name      = "${var.name}-${var.consul_version}-debian12-arm64-${local.stamp}"
    instance_type = "t4g.small"
    ssh_username  = "admin"
    source_ami_filter {
      filters     = { name = "debian-12-arm64-*", virtualization-type = "hvm", root-device-type = "ebs" }
      owners      = ["136693071363"]
      most_recent = true
    }
  }

  provisioner "file" {
    only        = ["amazon-ebs.amazon-linux-amd64", "amazon-ebs.ubuntu-amd64", "amazon-ebs.debian-amd64"]
    source      = var.binary_amd64
    destination = "/tmp/consul-bootstrap"
  }

  provisioner "file" {
    only        = ["amazon-ebs.amazon-linux-arm64", "amazon-ebs.ubuntu-arm64", "amazon-ebs.debian-arm64"]
    source      = var.binary_arm64
    destination = "/tmp/consul-bootstrap"
  }

  provisioner "shell" {
    script           = "${path.root}/provision.sh"
    environment_vars = ["CONSUL_VERSION=${var.consul_version}"]
    execute_command  = "chmod +x {{ .Path }}; {{ .Vars }} sudo -E {{ .Path }}"
  }

  post-processors {
    post-processor "manifest" {
      output = "packer-manifest.json"
    }

    # Instances of the image require IMDSv2 with a hop limit of 2, even if their launch template does not.
    post-processor "shell-local" {
      environment_vars = ["MANIFEST=packer-manifest.json"]
      script           = "${path.root}/require-imdsv2.sh"
    }
  }
}
