package import Base
internal import Foundation

/// The instance metadata service of one instance: IMDSv2 with its token, or the failures of it.
package final class FakeMetadata: Sendable {
  private struct State {
    var values: [String: String] = [:]
    var token = 0
    var demandsToken = true
    var tokenStatus = 200
    /// At uptime 0; nil: answers have no date.
    var start: Timestamp?
  }

  package static let base = "http://169.254.169.254"
  private let state = Watched(State())
  private let transport: FakeTransport
  private let clock: TestClock

  /// An instance with one network interface and no role, known under `transport` at once.
  /// - Parameter vpcID: nil omits the interface's paths.
  package init(
    _ context: TestContext, instanceID: String = "i-0aaa", region: String = "eu-west-1", zone: String = "eu-west-1a",
    ip: String = "10.0.1.10", account: String? = "123456789012", vpcID: String? = "vpc-1", base: String = base
  ) {
    transport = context.transport
    clock = context.clock
    setIdentity(instanceID: instanceID, region: region, zone: zone, ip: ip, account: account)
    if let vpcID {
      let mac = "02:00:00:00:00:01"
      let path = "/latest/meta-data/network/interfaces/macs/"
      set("/latest/meta-data/mac", mac)
      set(path, "\(mac)/")
      set("\(path)\(mac)/vpc-id", vpcID)
      set("\(path)\(mac)/vpc-ipv4-cidr-blocks", "10.0.0.0/16")
      set("\(path)\(mac)/device-number", "0")
      set("\(path)\(mac)/local-ipv4s", ip)
    }
    transport.on(base + "/") { request in self.answer(request, path: String(request.url.dropFirst(base.count))) }
  }

  package func setIdentity(instanceID: String, region: String, zone: String, ip: String, account: String?) {
    var document: [String: JSONValue] = [
      "instanceId": .string(instanceID), "region": .string(region), "availabilityZone": .string(zone),
      "privateIp": .string(ip), "version": "2017-09-30",
    ]
    document["accountId"] = account.map(JSONValue.string)
    set("/latest/dynamic/instance-identity/document", JSONValue.object(document).prettyText)
    set("/latest/meta-data/placement/availability-zone-id", "euw1-az1")
  }

  /// The role in the instance profile, with credentials until the time given.
  package func setRole(_ name: String = "web-node", expiration: Timestamp, keyID: String = "ASIAEXAMPLE") {
    let path = "/latest/meta-data/iam/security-credentials/"
    set(path, name)
    let document: JSONValue = [
      "Code": "Success", "AccessKeyId": .string(keyID), "SecretAccessKey": "example-secret", "Token": "example-token",
      "Expiration": .string(expiration.iso8601),
    ]
    set(path + name, document.prettyText)
  }

  /// Any other path, for example `/latest/meta-data/spot/instance-action`; nil answers 404.
  package func set(_ path: String, _ text: String?) { state.update { $0.values[path] = text } }

  /// The service's own clock, which it tells from now on in each answer.
  package func setTime(_ now: Timestamp) { state.update { $0.start = now + (.zero - clock.uptime()) } }

  /// Makes every token invalid, as a restart of the service does.
  package func forgetTokens() { state.update { $0.token += 1 } }

  /// What requests for a token are answered with: 403 where the endpoint is disabled, 404 where there is IMDSv1 only.
  package func setTokenStatus(_ status: Int) { state.update { $0.tokenStatus = status } }

  /// Whether a request without a token is refused with 401.
  package func demandToken(_ value: Bool) { state.update { $0.demandsToken = value } }

  private func answer(_ request: HTTPRequest, path: String) -> HTTPResponse {
    let state = state.value
    let token = "token-\(state.token)"
    if path == "/latest/api/token" {
      guard request.method == "PUT", request.header("X-aws-ec2-metadata-token-ttl-seconds") != nil else {
        return HTTPResponse(status: 400, body: [])
      }
      return HTTPResponse(status: state.tokenStatus, body: state.tokenStatus == 200 ? Array(token.utf8) : [])
    }
    let given = request.header("X-aws-ec2-metadata-token")
    guard given == token || given == nil && !state.demandsToken else { return HTTPResponse(status: 401, body: []) }
    guard let text = state.values[path] else { return HTTPResponse(status: 404, body: []) }
    let date = state.start.map { ["date": httpDate($0 + clock.uptime())] } ?? [:]
    return HTTPResponse(status: 200, headers: date, body: Array(text.utf8))
  }
}
