#!/bin/sh
# Marks the images of Packer's manifest so that their instances require IMDSv2, with a hop limit of 2 (EC2 User Guide,
# "Configure the AMI"). MANIFEST is Packer's.
set -eu
tr ',' '\n' < "${MANIFEST:?}" | sed -n 's/.*"artifact_id": *"\([a-z0-9-]*\):\(ami-[0-9a-f]*\)".*/\1 \2/p' | sort -u | while read -r region image; do
  aws ec2 modify-image-attribute --region "$region" --image-id "$image" --imds-support v2.0
  echo "$image in $region requires IMDSv2"
done
