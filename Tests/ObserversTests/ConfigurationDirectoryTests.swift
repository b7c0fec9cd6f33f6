import Base
import Consul
import TestSupport
import Testing

@testable import Model
@testable import Observers

/// Which files of its directory Consul reads, and which of them stop a run.
@Suite struct ConfigurationDirectoryTests {
  private let context = TestContext()
  private var files: FakeFiles { context.files }

  private func observe() -> (found: [OtherConfigurationFile], unreadable: [UnreadableFile]) {
    let reader = CheckedReader(files)
    let directory = ConfigurationDirectory(path: "/etc/consul.d", reader: reader)
    return (directory.files(except: "/etc/consul.d/00-consul-bootstrap.json"), reader.unreadable)
  }

  @Test func `names decide, and their bytes the order`() {
    for name in ["b.json", "B.hcl", ".h.json", "ä.json", "x.JSON", "x.json.bak", "x", "00-consul-bootstrap.json"] {
      files.put("/etc/consul.d/\(name)", "{}")
    }
    files.makeDirectory("/etc/consul.d/d.json")
    let (found, unreadable) = observe()
    #expect(found.map(\.path) == [".h.json", "B.hcl", "b.json", "ä.json"].map { "/etc/consul.d/\($0)" })
    #expect(found.allSatisfy { $0.document == SecretDocument(.object([:])) } && unreadable.isEmpty)
  }

  @Test func `of a link the target's name decides`() {
    files.put("/srv/x.conf", #"{"node_name": "no"}"#)
    files.put("/srv/y.hcl", "node_name = \"yes\"")
    files.link("/etc/consul.d/a.json", to: "/srv/x.conf")
    files.link("/etc/consul.d/b.txt", to: "/srv/y.hcl")
    files.makeDirectory("/srv/d.json")
    files.link("/etc/consul.d/c.json", to: "/srv/d.json")
    let (found, unreadable) = observe()
    #expect(
      found == [
        OtherConfigurationFile(
          path: "/etc/consul.d/b.txt", target: "/srv/y.hcl", .document(SecretDocument(["node_name": "yes"])))
      ])
    #expect(unreadable.isEmpty)
  }

  @Test func `what cannot be read is unknown, not absent`() {
    files.link("/etc/consul.d/a.txt", to: "/nowhere")
    files.makeOther("/etc/consul.d/b.json")
    files.put("/etc/consul.d/c.json", "{}")
    files.fail(.read, "/etc/consul.d/c.json", errno: 5)
    files.put("/etc/consul.d/d.json", String(repeating: " ", count: 1 << 20) + "{}")
    files.put("/etc/consul.d/e.json", "{}")
    files.fail(.status, "/etc/consul.d/e.json", errno: 13)
    let (found, unreadable) = observe()
    #expect(found.count == 5 && found.allSatisfy { if case .unreadable = $0.content { true } else { false } })
    #expect(
      unreadable.map(\.reason) == [
        "/etc/consul.d/a.txt is a link to a file that cannot be read, and Consul does not start with it",
        "/etc/consul.d/b.json is not a regular file", "read /etc/consul.d/c.json: Input/output error",
        "read /etc/consul.d/d.json: larger than 1048576 bytes", "check /etc/consul.d/e.json: Permission denied",
      ])
  }

  @Test func `a file that is not understood is neither absent nor unreadable`() {
    files.put("/etc/consul.d/a.hcl", "server = true\n]")
    let (found, unreadable) = observe()
    #expect(
      found == [
        OtherConfigurationFile(
          path: "/etc/consul.d/a.hcl", .notUnderstood(reason: "/etc/consul.d/a.hcl, line 2: a key expected"))
      ])
    #expect(unreadable.isEmpty)
  }

  @Test func `the current configuration is what the agent makes of all files`() {
    files.put("/etc/consul.d/00-consul-bootstrap.json", #"{"client_addr": "10.0.1.10", "retry_join": ["10.0.1.9"]}"#)
    files.put(
      "/etc/consul.d/z.hcl", "ports { http = 8501 }\nretry_join = [\"10.0.1.8\"]\nacl { tokens { agent = \"t\" } }")
    files.put("/etc/consul.d/zz.hcl", "]")
    let current = CurrentConfiguration(reading: "/etc/consul.d/00-consul-bootstrap.json", files)
    #expect(current.agentAddress(Settings()) == "10.0.1.10:8501")
    #expect(current.agentToken == Secret("t"))
    // Ours alone: what a run writes into our file again.
    #expect(current.peers.map(\.description) == ["10.0.1.9"])
    #expect(current.problems == ["/etc/consul.d/zz.hcl, line 1: a key expected"])
  }
}
