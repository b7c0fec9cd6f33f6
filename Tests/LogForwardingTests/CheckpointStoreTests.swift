import Base
import TestSupport
import Testing

@testable import LogForwarding

private let path = "/var/lib/consul-bootstrap/log-checkpoints.json"

@Suite(.timeLimit(.minutes(5))) struct CheckpointStoreTests {
  private let context = TestContext()

  private func store() -> CheckpointStore { CheckpointStore(path: path, files: context.files, log: context.log) }

  @Test func `checkpoints are read as they were saved, and removed`() async throws {
    context.files.makeDirectory("/var/lib/consul-bootstrap")
    let first = store()
    try await first.save(.cursor("s=1"), of: "journal")
    try await first.save(.spool(SpoolPosition(segment: .max, offset: .max)), of: "consul")
    let position = FilePosition(
      identity: FileIdentity(device: .max, inode: .max), offset: .max, time: .min, fingerprint: .max)
    try await first.save(.file(position), of: "file:/a")
    try await first.remove("journal")
    let second = store()
    #expect(await second.checkpoint(of: "journal") == nil)
    #expect(await second.checkpoint(of: "consul") == .spool(SpoolPosition(segment: .max, offset: .max)))
    #expect(await second.checkpoint(of: "file:/a") == .file(position))
    #expect(context.sink.lines == [])
  }

  /// Regression: entries were left out without a word.
  @Test(arguments: [
    (
      #"{"a": {"device": "x"}, "b": 1, "c": {"cursor": "k"}, "d": {"offset": -1}, "e": {"segment": -1, "offset": 0}}"#,
      "warning checkpoints in \(path) are malformed; their logs are sent from the beginning count=4"
    ),
    (
      #"{"a": {"device": "18446744073709551616", "inode": "1", "fingerprint": "1", "#
        + #""offset": 0, "time": 0}, "c": {"cursor": "k"}}"#,
      "warning checkpoints in \(path) are malformed; their logs are sent from the beginning count=1"
    ),
  ])
  func `malformed checkpoints are ignored and logged`(_ text: String, _ message: String) async {
    context.files.put(path, text)
    let store = store()
    for name in ["a", "b", "d", "e"] { #expect(await store.checkpoint(of: name) == nil) }
    #expect(await store.checkpoint(of: "c") == .cursor("k"))
    #expect(context.sink.lines == [message])
  }

  @Test func `a file that is not an object counts as malformed`() async {
    context.files.put(path, "[]")
    _ = store()
    #expect(
      context.sink.lines == [
        "warning checkpoints in \(path) are malformed; their logs are sent from the beginning count=1"
      ])
  }

  @Test func `a file that cannot be read is logged`() async {
    context.files.put(path, "{}")
    context.files.fail(.read, path, errno: 5)
    _ = store()
    #expect(
      context.sink.lines == [
        "warning cannot read the checkpoints in \(path); every log is sent from its beginning "
          + "reason=\"read \(path): Input/output error\""
      ])
  }
}
