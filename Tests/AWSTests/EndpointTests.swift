import Testing

@testable import AWS

/// The expected hosts are botocore 1.44's, from its endpoint rule sets of `autoscaling` and `ec2`.
@Suite struct EndpointTests {
  @Test(arguments: [
    ("eu-west-1", false, false, "eu-west-1.amazonaws.com"), ("eu-west-1", false, true, "eu-west-1.api.aws"),
    ("cn-north-1", false, false, "cn-north-1.amazonaws.com.cn"),
    ("cn-north-1", false, true, "cn-north-1.api.amazonwebservices.com.cn"),
    ("us-gov-west-1", false, false, "us-gov-west-1.amazonaws.com"),
    ("us-gov-west-1", false, true, "us-gov-west-1.api.aws"),
    ("us-iso-east-1", false, false, "us-iso-east-1.c2s.ic.gov"),
    ("us-iso-east-1", false, true, "us-iso-east-1.api.aws.ic.gov"),
    ("us-isob-east-1", false, false, "us-isob-east-1.sc2s.sgov.gov"),
    ("us-isob-east-1", false, true, "us-isob-east-1.api.aws.scloud"),
    ("eu-isoe-west-1", false, false, "eu-isoe-west-1.cloud.adc-e.uk"),
    ("eu-isoe-west-1", false, true, "eu-isoe-west-1.api.cloud-aws.adc-e.uk"),
    ("us-isof-south-1", false, false, "us-isof-south-1.csp.hci.ic.gov"),
    ("us-isof-south-1", false, true, "us-isof-south-1.api.aws.hci.ic.gov"),
    ("eusc-de-east-1", false, false, "eusc-de-east-1.amazonaws.eu"),
    ("eusc-de-east-1", false, true, "eusc-de-east-1.api.amazonwebservices.eu"),
    ("eu-west-1", true, false, "-fips eu-west-1.amazonaws.com"), ("eu-west-1", true, true, "-fips eu-west-1.api.aws"),
    ("cn-north-1", true, false, "-fips cn-north-1.amazonaws.com.cn"),
    ("us-gov-west-1", true, false, "us-gov-west-1.amazonaws.com"),
    ("us-gov-west-1", true, true, "-fips us-gov-west-1.api.aws"),
    ("us-isob-east-1", true, true, "-fips us-isob-east-1.api.aws.scloud"),
  ])
  func `each partition has its hosts`(_ region: String, _ fips: Bool, _ dualStack: Bool, _ expected: String) {
    let resolver = EndpointResolver(environment: [
      "AWS_USE_FIPS_ENDPOINT": "\(fips)", "AWS_USE_DUALSTACK_ENDPOINT": "\(dualStack)",
    ])
    for service in [AWSService.autoScaling, .ec2] {
      let parts = expected.split(separator: " ")
      let host = parts.count == 2 ? "\(service.name)\(parts[0]).\(parts[1])" : "\(service.name).\(expected)"
      #expect(resolver.url(service, region: region) == "https://\(host)")
    }
  }

  @Test func `the service's own override wins, and overrides can be ignored`() {
    var environment = ["AWS_ENDPOINT_URL": "http://all/", "AWS_ENDPOINT_URL_EC2": "http://ec2"]
    #expect(EndpointResolver(environment: environment).url(.ec2, region: "eu-west-1") == "http://ec2")
    #expect(EndpointResolver(environment: environment).url(.autoScaling, region: "eu-west-1") == "http://all")
    environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true"
    #expect(
      EndpointResolver(environment: environment).url(.ec2, region: "eu-west-1") == "https://ec2.eu-west-1.amazonaws.com"
    )
  }
}
