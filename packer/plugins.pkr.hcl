# For packer init of Packer 1.7 or newer; older releases include the builder and do not know this block.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.0"
    }
  }
}
