/// Finds a service's endpoint as the SDKs do: overrides first, then partition, FIPS and dual-stack.
package struct EndpointResolver: Sendable {
  private let environment: [String: String]

  package init(environment: [String: String]) { self.environment = environment }

  /// DNS suffixes by partition (botocore's `partitions.json`).
  private struct Partition {
    let prefixes: [String]
    let suffix: String
    let dualStackSuffix: String
    /// The plain EC2 and Auto Scaling endpoints of GovCloud are FIPS endpoints.
    var plainIsFIPS = false
  }

  private static let partitions = [
    Partition(prefixes: ["cn-"], suffix: "amazonaws.com.cn", dualStackSuffix: "api.amazonwebservices.com.cn"),
    Partition(prefixes: ["us-gov-"], suffix: "amazonaws.com", dualStackSuffix: "api.aws", plainIsFIPS: true),
    Partition(prefixes: ["us-iso-"], suffix: "c2s.ic.gov", dualStackSuffix: "api.aws.ic.gov"),
    Partition(prefixes: ["us-isob-"], suffix: "sc2s.sgov.gov", dualStackSuffix: "api.aws.scloud"),
    Partition(prefixes: ["eu-isoe-"], suffix: "cloud.adc-e.uk", dualStackSuffix: "api.cloud-aws.adc-e.uk"),
    Partition(prefixes: ["us-isof-", "eu-isof-"], suffix: "csp.hci.ic.gov", dualStackSuffix: "api.aws.hci.ic.gov"),
    Partition(prefixes: ["eusc-"], suffix: "amazonaws.eu", dualStackSuffix: "api.amazonwebservices.eu"),
    Partition(prefixes: [""], suffix: "amazonaws.com", dualStackSuffix: "api.aws"),
  ]

  /// Absolute, without a trailing slash.
  package func url(_ service: AWSService, region: String) -> String {
    if environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]?.lowercased() != "true" {
      for name in ["AWS_ENDPOINT_URL_\(service.environmentSuffix)", "AWS_ENDPOINT_URL"] {
        if let url = environment[name], !url.isEmpty { return url.hasSuffix("/") ? String(url.dropLast()) : url }
      }
    }
    let fips = environment["AWS_USE_FIPS_ENDPOINT"]?.lowercased() == "true"
    let dualStack = environment["AWS_USE_DUALSTACK_ENDPOINT"]?.lowercased() == "true"
    let partition = Self.partitions.first { $0.prefixes.contains { region.hasPrefix($0) } }!
    let host = fips && !(partition.plainIsFIPS && !dualStack) ? "\(service.name)-fips" : service.name
    return "https://\(host).\(region).\(dualStack ? partition.dualStackSuffix : partition.suffix)"
  }
}
