import Testing

@testable import Base
@testable import Consul

@Suite struct ConsulVersionTests {
  @Test(arguments: [
    ("Consul v1.8.7+dfsg1\nRevision x\n", ConsulVersion(1, 8, 7)), ("Consul v1.18.0-rc1+ent", ConsulVersion(1, 18, 0)),
    ("a warning\nConsul v0.8.3", ConsulVersion(0, 8, 3)), ("Consul v2.0", ConsulVersion(2, 0)),
  ])
  func `versions are read`(_ output: String, _ version: ConsulVersion) {
    #expect(ConsulVersion(output: output) == version)
  }

  @Test(arguments: [
    "", "Vault v1.0.0", "Consul vx", "Consul v1", "Consul v1.99999999999999999999", "Consul v99999999999999999999.1",
    "Consul v1.8.99999999999999999999", "Consul v1.8.٣",
  ])
  func `anything else is none`(_ output: String) {
    #expect(ConsulVersion(output: output) == nil)
  }

  @Test func `1.10 is newer than 1.9`() { #expect(ConsulVersion(1, 9) < ConsulVersion(1, 10)) }
}
