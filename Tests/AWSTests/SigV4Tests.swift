import Testing

@testable import AWS
@testable import Base

/// The expected headers were made by botocore 1.44's SigV4Auth from the same request, credentials and time.
@Suite struct SigV4Tests {
  struct Case: Sendable {
    let service: String
    let url: String
    let host: String
    let headers: [(name: String, value: String)]
    let body: String
    let token: String?
    let authorization: String
  }

  static let form = [(name: "Content-Type", value: "application/x-www-form-urlencoded; charset=utf-8")]

  @Test(arguments: [
    Case(
      service: "autoscaling", url: "https://autoscaling.eu-west-1.amazonaws.com/",
      host: "autoscaling.eu-west-1.amazonaws.com",
      headers: form,
      body: "Action=DescribeAutoScalingGroups&Version=2011-01-01&AutoScalingGroupNames.member.1=consul+servers",
      token: nil,
      authorization:
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/autoscaling/aws4_request, "
        + "SignedHeaders=content-type;host;x-amz-date, "
        + "Signature=2d7d0b9b1bddb535a4e1b65fff588195546057dc1bf97d2eddd6aa1d51a8bef8"
    ),
    Case(
      service: "ec2", url: "https://ec2.eu-west-1.amazonaws.com/", host: "ec2.eu-west-1.amazonaws.com", headers: form,
      body: "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3AName&Filter.1.Value.1=consul",
      token: "IQoJb3JpZ2luX2VjEXAMPLE==",
      authorization:
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/ec2/aws4_request, "
        + "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, "
        + "Signature=9a1594247895122fc77c30e77450d207dabfe5cdb7e2a6882244fca896fdf85a"
    ),
    Case(
      service: "logs", url: "http://127.0.0.1:5000/", host: "127.0.0.1:5000",
      headers: [("Content-Type", "application/x-amz-json-1.1"), ("X-Amz-Target", "Logs_20140328.DescribeLogGroups")],
      body: #"{"limit":5}"#,
      token: "token",
      authorization:
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/logs/aws4_request, "
        + "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, "
        + "Signature=596882a92f43158da963325f210e4ab166612d2daa4b05f7d92eed10f1f770f5"
    ),
  ])
  func `the whole Authorization header is botocore's`(_ test: Case) {
    var request = HTTPRequest("POST", test.url)
    request.headers = test.headers
    request.body = Array(test.body.utf8)
    let credentials = Credentials(
      accessKeyID: "AKIDEXAMPLE", secretAccessKey: Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
      sessionToken: test.token.map { Secret($0) }, source: "test")
    SigV4(region: "eu-west-1", service: test.service)
      .sign(&request, host: test.host, with: credentials, at: Timestamp(iso8601: "2026-01-02T03:04:05Z")!)
    let headers = Dictionary(request.headers.map { ($0.name, $0.value) }, uniquingKeysWith: { _, last in last })
    #expect(headers["Authorization"] == test.authorization)
    #expect(headers["X-Amz-Date"] == "20260102T030405Z")
    #expect(headers["X-Amz-Security-Token"] == test.token)
  }

  @Test func `form bodies write a blank as plus and everything else by percent`() {
    #expect(
      FormEncoding.encode([("Filter.1.Name", "tag:Name"), ("v", "a b/ü~*")])
        == "Filter.1.Name=tag%3AName&v=a+b%2F%C3%BC~%2A")
  }
}
