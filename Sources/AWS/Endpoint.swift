/// Finds a service's endpoint as the SDKs do: overrides first, then partition, FIPS and dual-stack.
package struct EndpointResolver: Sendable {
  private let environment: [String: String]

  package init(environment: [String: String]) { self.environment = environment }

  /// Absolute, without a trailing slash.
  package func url(_ service: AWSService, region: String) -> String {
    if environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]?.lowercased() != "true" {
      for name in ["AWS_ENDPOINT_URL_\(service.environmentSuffix)", "AWS_ENDPOINT_URL"] {
        if let url = environment[name], !url.isEmpty { return url.hasSuffix("/") ? String(url.dropLast()) : url }
      }
    }
    let fips = environment["AWS_USE_FIPS_ENDPOINT"]?.lowercased() == "true"
    let dualStack = environment["AWS_USE_DUALSTACK_ENDPOINT"]?.lowercased() == "true"
    let partition = Partition.of(region: region)
    let host = fips && !(partition.plainIsFIPS && !dualStack) ? "\(service.name)-fips" : service.name
    return "https://\(host).\(region).\(dualStack ? partition.dualStackSuffix : partition.suffix)"
  }
}
