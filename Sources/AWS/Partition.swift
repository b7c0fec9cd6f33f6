/// A group of regions with its own DNS suffix and ARNs (botocore's `partitions.json`).
package struct Partition: Sendable {
  /// Name in ARNs.
  package let name: String
  let prefixes: [String]
  package let suffix: String
  let dualStackSuffix: String
  /// The plain EC2 and Auto Scaling endpoints of GovCloud are FIPS endpoints.
  var plainIsFIPS = false

  private static let others = [
    Partition(
      name: "aws-cn", prefixes: ["cn-"], suffix: "amazonaws.com.cn", dualStackSuffix: "api.amazonwebservices.com.cn"),
    Partition(
      name: "aws-us-gov", prefixes: ["us-gov-"], suffix: "amazonaws.com", dualStackSuffix: "api.aws",
      plainIsFIPS: true),
    Partition(name: "aws-iso", prefixes: ["us-iso-"], suffix: "c2s.ic.gov", dualStackSuffix: "api.aws.ic.gov"),
    Partition(name: "aws-iso-b", prefixes: ["us-isob-"], suffix: "sc2s.sgov.gov", dualStackSuffix: "api.aws.scloud"),
    Partition(
      name: "aws-iso-e", prefixes: ["eu-isoe-"], suffix: "cloud.adc-e.uk", dualStackSuffix: "api.cloud-aws.adc-e.uk"),
    Partition(
      name: "aws-iso-f", prefixes: ["us-isof-", "eu-isof-"], suffix: "csp.hci.ic.gov",
      dualStackSuffix: "api.aws.hci.ic.gov"),
    Partition(
      name: "aws-eusc", prefixes: ["eusc-"], suffix: "amazonaws.eu", dualStackSuffix: "api.amazonwebservices.eu"),
  ]
  private static let standard = Partition(
    name: "aws", prefixes: [], suffix: "amazonaws.com", dualStackSuffix: "api.aws")

  package static func of(region: String) -> Partition {
    others.first { $0.prefixes.contains { region.hasPrefix($0) } } ?? standard
  }
}
