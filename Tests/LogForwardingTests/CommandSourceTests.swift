import Base
import TestSupport
import Testing

@testable import LogForwarding

@Suite(.timeLimit(.minutes(5))) struct CommandSourceTests {
  private let context = TestContext()

  private func journal(_ checkpoint: Checkpoint? = nil, unit: String? = "consul.service") -> CommandSource {
    CommandSource(
      .journal(unit: unit), checkpoint: checkpoint, launcher: context.launcher, clock: context.clock)
  }

  private func container(_ checkpoint: Checkpoint? = nil) -> CommandSource {
    CommandSource(
      .container("consul", docker: "/usr/bin/docker"), checkpoint: checkpoint, launcher: context.launcher,
      clock: context.clock)
  }

  private func entry(_ cursor: String, _ message: String, time: String = "1767323045678901") -> String {
    #"{"__CURSOR":"\#(cursor)","__REALTIME_TIMESTAMP":"\#(time)","MESSAGE":\#(message)}"# + "\n"
  }

  private static let options =
    "/bin/journalctl --follow --no-tail --output=json --all --no-pager --quiet --output-fields=MESSAGE"

  @Test func `entries of the journal become lines with their time and their cursor`() async throws {
    context.launcher.follow("/bin/journalctl") { [entry] in
      $0.feed(entry("s=1", #""one""#, "1767323045678901"))
      // Bytes that are not text, and a message that is too long for the journal's JSON.
      $0.feed(entry("s=2", "[104, 105, 255, -1, 256]", "1767323045678901") + entry("s=3", "null", "1767323045678901"))
    }
    var source = journal()
    let chunk = try await source.read(1 << 20)
    #expect(chunk.texts == ["one", "hi\u{FFFD}\u{FFFD}\0", ""])
    #expect(chunk.lines.map { $0.time?.milliseconds } == [1_767_323_045_678, 1_767_323_045_678, 1_767_323_045_678])
    #expect(chunk.lines.map { chunk.checkpoint(after: $0) } == [.cursor("s=1"), .cursor("s=2"), .cursor("s=3")])
    #expect(context.launcher.commands == [Self.options + " --unit=consul.service"])
  }

  @Test func `the journal is followed from the checkpoint on`() async throws {
    context.launcher.follow("/bin/journalctl") { $0.finish() }
    var source = journal(.cursor("s=1;i=2"), unit: nil)
    await #expect(throws: SourceError.self) { try await source.read(100) }
    #expect(context.launcher.commands == [Self.options + " '--after-cursor=s=1;i=2'"])
  }

  /// The time stamp is foreign input: a number of any size must not trap.
  @Test(arguments: [
    ("9223372036854775807", 9_223_372_036_854_775), ("-9223372036854775808", -9_223_372_036_854_775), ("0", 0),
  ])
  func `a journal's time of any size`(_ time: String, _ milliseconds: Int64) async throws {
    context.launcher.follow("/bin/journalctl") { [entry] in $0.feed(entry("s=1", #""x""#, time)) }
    var source = journal()
    #expect(try await source.read(100).lines.map { $0.time?.milliseconds } == [milliseconds])
  }

  /// Such times are sent as the time of reading.
  @Test(arguments: ["9223372036854775807", "-9223372036854775808"])
  func `an entry with an impossible time is delivered`(_ time: String) async throws {
    let bench = ForwardingBench()
    bench.context.launcher.follow("/bin/journalctl") { [entry] in $0.feed(entry("s=1", #""x""#, time)) }
    let forwarder = bench.forwarder(["journal": .journal(unit: nil)])
    try await running(forwarder.run) {
      let call = try await bench.aws.call("PutLogEvents")
      let events = try JSONValue(parsing: call.parameters["logEvents"] ?? "").array ?? []
      #expect(events.count == 1 && events[0]["message"] == "x")
      #expect(abs((events[0]["timestamp"]?.integer ?? 0) - bench.clock.wall().milliseconds) < 10_000)
    }
    #expect(try await bench.context.launcher.followed().isStopped)
  }

  @Test(arguments: [
    "99999999999999999999", "1.5", "", "x",
  ])
  func `a line that is not an entry is the program's message`(_ time: String) async throws {
    context.launcher.follow("/bin/journalctl") { [entry] in
      $0.feed(entry("s=1", #""x""#, time))
      $0.finish()
    }
    var source = journal()
    #expect(try await source.read(100).isEmpty)
    let error = await #expect(throws: SourceError.self) { try await source.read(100) }
    #expect(error?.explanation.hasPrefix(#"/bin/journalctl has ended: {"__CURSOR":"s=1""#) == true)
  }

  @Test func `a program that ends is started again after its last line`() async throws {
    context.launcher.follow("/bin/journalctl") { [entry] in $0.feed(entry("s=2", #""two""#, "1767323045678901")) }
    context.launcher.follow("/bin/journalctl", times: 1) { [entry] in
      $0.feed(entry("s=1", #""one""#, "1767323045678901") + "Failed to get journal fields\n")
      $0.finish()
    }
    var source = journal()
    #expect(try await source.read(1 << 20).texts == ["one"])
    let error = await #expect(throws: SourceError.self) { try await source.read(100) }
    #expect(error?.explanation == "/bin/journalctl has ended: Failed to get journal fields")
    #expect(try await source.read(1 << 20).texts == ["two"])
    #expect(context.launcher.commands.last == Self.options + " --unit=consul.service --after-cursor=s=1")
    source.stop()
    #expect(try await context.launcher.followed(2).isStopped)
  }

  @Test func `a container's lines up to the checkpoint are skipped`() async throws {
    let times = (1...3).map { "2026-01-02T03:04:05.00000000\($0)Z" }
    context.launcher.follow("/usr/bin/docker") { $0.feed("\(times[0]) one\n\(times[1]) two\n\(times[2]) \n") }
    var source = container(.cursor(times[0]))
    let chunk = try await source.read(1 << 20)
    #expect(chunk.texts == ["two", ""])
    #expect(chunk.lines.map { chunk.checkpoint(after: $0) } == [.cursor(times[1]), .cursor(times[2])])
    #expect(
      context.launcher.commands == ["/usr/bin/docker logs --follow --timestamps --since \(times[0]) consul"])
  }

  @Test func `a message that is too long for an event is cut, and resumes before its entry`() async throws {
    let text = String(repeating: "x", count: LineSplitter.longestEvent + 1)
    context.launcher.follow("/bin/journalctl") { [entry] in $0.feed(entry("s=1", "\"\(text)\"", "1767323045678901")) }
    var source = journal(.cursor("s=0"))
    var chunk = LineChunk()
    while chunk.isEmpty { chunk = try await source.read(1 << 20) }
    #expect(chunk.lines.count > 1 && chunk.texts.dropLast().allSatisfy { $0.hasSuffix(LineSplitter.cutMark) })
    let checkpoints = chunk.lines.map { chunk.checkpoint(after: $0) }
    #expect(checkpoints.dropLast().allSatisfy { $0 == .cursor("s=0") } && checkpoints.last == .cursor("s=1"))
  }

  /// A program that cannot be started parks the stream.
  @Test func `a program that cannot be started is reported`() async throws {
    let bench = ForwardingBench()
    bench.context.launcher.fail("/bin/journalctl")
    let forwarder = bench.forwarder(["journal": .journal(unit: nil)])
    try await running(forwarder.run) {
      try await bench.until { try await bench.condition(of: "journal", forwarder) == .parked }
      let reason = "cannot read journal: execute /bin/journalctl: No such file or directory"
      #expect(try await bench.status(of: "journal", forwarder).lastError == reason)
      bench.context.launcher.follow("/bin/journalctl") { [entry] in $0.feed(entry("s=1", #""x""#, "1767323045678901")) }
      try await bench.until { bench.aws.messages(group: "g", stream: "journal") == ["x"] }
      #expect(try await bench.condition(of: "journal", forwarder) == .ok)
    }
  }
}
