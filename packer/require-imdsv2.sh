#!/bin/sh
# Marks the images of Packer's manifest so that their instances require IMDSv2, with a hop limit of 2 (EC2 User Guide,
# "Configure the AMI"). MANIFEST is Packer's.
set -eu
grep -oE '[a-z]{2}[a-z-]*-[0-9]+:ami-[0-9a-f]+' "${MANIFEST:?}" | sort -u | while IFS=: read -r region image; do
  aws ec2 modify-image-attribute --region "$region" --image-id "$image" --imds-support v2.0
  echo "$image in $region requires IMDSv2"
done
