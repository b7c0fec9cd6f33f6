import Base
import TestSupport
import Testing

@testable import Commands

/// The report of `doctor`; what it finds is tested with `Doctor`.
@Suite(.timeLimit(.minutes(5))) struct DoctorCommandTests {
  private func fixture(_ output: FakeOutput = FakeOutput()) -> CommandFixture {
    let command = CommandFixture(output: output)
    command.test.files.put("/usr/bin/consul", "binary", mode: 0o755)
    command.test.launcher.run("/usr/bin/consul", ["version"], output: "Consul v1.20.1\n")
    command.test.system.setBootedBySystemd(false)
    command.test.system.setFreeSpace(bytes: 50 << 30)
    command.test.system.setFreeSpace("/var", bytes: 600 << 20)
    let metadata = FakeMetadata(command.test)
    metadata.setTokenStatus(403)
    return command
  }

  @Test func `each finding is a line, with a hint where something is to be done; a problem is exit status 1`() async {
    let command = fixture()
    command.test.files.makeDirectory("/var")
    #expect(await command.run(["doctor"]) == 1)
    #expect(
      command.output.lines == [
        "ok      consul: version 1.20.1, /usr/bin/consul",
        "problem metadata: the instance metadata service gave no IMDSv2 token; "
          + "http://169.254.169.254 answered HTTP 403",
        "        hint: enable the HTTP endpoint in the metadata options of this instance",
        "ok      disk: 51200 MiB are free for /opt/consul",
        "note    disk: 600 MiB are free for /var/lib/consul-bootstrap", "", "1 problem found", "",
      ])
  }

  @Test func `several problems are counted`() async {
    let command = fixture()
    command.test.files.delete("/usr/bin/consul")
    #expect(await command.run(["doctor"]) == 1)
    #expect(command.output.text.hasSuffix("\n\n2 problems found\n"))
  }

  @Test func `severities have colors on a terminal`() async {
    let command = fixture(FakeOutput(isTerminal: true, hasColors: true))
    #expect(await command.run(["doctor"]) == 1)
    #expect(command.output.lines[0].hasPrefix("\u{1B}[32mok\u{1B}[0m      consul: "))
    #expect(command.output.lines[1].hasPrefix("\u{1B}[31mproblem\u{1B}[0m metadata: "))
  }

  @Test func `--json prints one document with every finding`() async throws {
    let command = fixture()
    #expect(await command.run(["doctor", "--json"]) == 1)
    let report = try JSONValue(parsing: command.output.text)
    #expect(report["healthy"] == false)
    #expect(
      report["findings"]?.array?.map { $0["severity"] ?? .null } == ["ok", "problem", "ok", "ok"])
  }
}
