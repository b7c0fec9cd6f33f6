import Testing

/// Rules for single lines of Sources; each exception carries its reason.
@Suite struct CodeRuleTests {
  /// A wall clock that is set while the program runs must not end a wait early, or never: intervals and deadlines are
  /// measured by `uptime` (`MonotonicTime`). What is forbidden: to calculate or compare with the wall clock's time, to
  /// keep it, and to read it past the seam.
  @Test func `the wall clock serves time stamps only`() throws {
    let found = violations(in: try Repository.sources(), exceptions: Self.wallClock, Self.usesWallClock)
    #expect(found.isEmpty, "measure intervals and deadlines by uptime: \(found.joined(separator: "\n"))")
  }

  private static func usesWallClock(_ code: String) -> Bool {
    // Before the expressions, which are slow.
    guard ["now", "Date", "time", "REALTIME"].contains(where: { code.contains($0) }) else { return false }
    let use = /[-+<>]=?\s*[\w.]*\bnow\(\)|=\s+[\w.]*\bnow\(\)|\bnow\(\)\s*[-+<>](?!>)/.wordBoundaryKind(.simple)
    let other = /\bDate\(|\bDate\.now|CLOCK_REALTIME|gettimeofday\(|\btime\((nil|&)/.wordBoundaryKind(.simple)
    let argument = /\b(since|until|before|after|deadline|start):\s*[\w.]*\bnow\(\)/.wordBoundaryKind(.simple)
    return code.contains(use) || code.contains(other) || code.contains(argument)
  }

  private static let wallClock = [
    Exception("Machine.swift", "clock_gettime(CLOCK_REALTIME", "the seam's real clock"),
    Exception("AWSClient.swift", ".map { $0 - now() }", "the offset of AWS's clock from the wall clock"),
    Exception("AWSClient.swift", "offset = server - now()", "the offset of AWS's clock from the wall clock"),
    Exception("AWSClient.swift", "at: now() + state", "the time in a signature, corrected by that offset"),
    Exception("Credentials.swift", "$0 - now() >", "credentials expire at a time of the wall clock"),
    Exception("Credentials.swift", "now() < expiration", "credentials expire at a time of the wall clock"),
    Exception("Doctor.swift", "$0 - context.now()", "credentials expire at a time of the wall clock"),
    Exception("MembershipWaiter.swift", "observation.time = context.now()", "the observation's time stamp"),
    Exception("RecordObserver.swift", "context.now() - $0 >=", "the age of an entry that another machine has dated"),
    Exception("LogStream.swift", "latest = now + Self.tolerableAhead", "the service limits the time stamps of events"),
    Exception("LogStream.swift", "counters.lastAcknowledged = clocks.now()", "a time stamp in the report"),
    Exception("LogAgentMonitor.swift", "context.now() + ($0 - uptime)", "a time stamp in the report"),
  ]

  /// The rule above trusts the seam.
  @Test func `uptime is monotonic`() throws {
    let machine = try Repository.sources().filter { $0.name == "Machine.swift" }.flatMap(\.code).map(\.text)
    let start = try #require(machine.firstIndex { $0.contains("func uptime()") })
    let call = machine[start...].first { $0.contains("clock_gettime(") }
    #expect(call == "clock_gettime(CLOCK_MONOTONIC, &time)")
  }

  /// What hides an error hides its reason: an error is thrown, logged, or part of the result. A sleep that is cancelled
  /// ends early, which is no error.
  @Test func `no error is dropped`() throws {
    let found = violations(in: try Repository.sources(), exceptions: Self.droppedErrors) { code in
      code.contains(/\btry[?!]/.wordBoundaryKind(.simple)) && !code.contains("sleep(for:")
    }
    #expect(found.isEmpty, "handle or log the error: \(found.joined(separator: "\n"))")
  }

  private static let droppedErrors = [
    Exception("JSONValue.swift", "container(keyedBy:", "the type of a JSON value is found by trying"),
    Exception("JSONValue.swift", "unkeyedContainer()", "the type of a JSON value is found by trying"),
    Exception("JSONValue.swift", "decode(Bool.self)", "the type of a JSON value is found by trying"),
    Exception("JSONValue.swift", "decode(String.self)", "the type of a JSON value is found by trying"),
    Exception("JSONValue.swift", "decode(Int64.self)", "the type of a JSON value is found by trying"),
    Exception("OptionValues.swift", "JSONValue(parsing: text)", "the error says what the option takes"),
    Exception("LogOptions.swift", "JSONValue(parsing: value)", "the error says what the option takes"),
    Exception("OptionParser.swift", "JSONValue(parsing: text)", "the error says what the option takes"),
    Exception("PosixProcessLauncher.swift", "group.next()", "the cancellation is thrown below"),
    Exception(
      "CommandSource.swift", "JSONValue(parsing: Array(line))", "a line that is no JSON is an error of journalctl"),
    Exception("LogBatch.swift", "JSONValue(parsing:", "the text was escaped here"),
    Exception("AWSError.swift", "XMLDocument(parsing:", "an error without a code, whose status and text are kept"),
    Exception("AWSError.swift", "JSONValue(parsing:", "an error without a code, whose status and text are kept"),
  ]

  /// A trap ends the process, and under `--start supervise` it ends Consul: input and the machine's state throw.
  @Test func `only what a programmer got wrong may trap`() throws {
    let words = ["precondition(", "preconditionFailure(", "assert(", "assertionFailure(", "fatalError("]
    let found = violations(in: try Repository.sources(), exceptions: Self.traps) { code in
      words.contains { code.contains($0) }
    }
    #expect(found.isEmpty, "throw an error instead: \(found.joined(separator: "\n"))")
  }

  private static let traps = [
    Exception("Digest.swift", "libcrypto has no SHA-256", "libcrypto is linked statically"),
    Exception("EC2.swift", "no filter describes every instance", "filters are literals of the caller"),
    Exception("LineSplitter.swift", "limit >= 64", "limits are literals of the caller"),
    Exception("MetadataClient.swift", "the loop above ends", "the compiler does not know that `0...` has no end"),
  ]

  /// The rules see what they should: each of these lines has been in the program.
  @Test(arguments: [
    "let deadline = now() + time", "while now() < deadline {", "guard now() - gone >= Self.patience else {",
    "let started = now()", "known[path]?.gone = now()", "if isLast || self.now() - since >= flushInterval {",
    "let age = Date().timeIntervalSince(start)", "wait(since: context.now())", "clock_gettime(CLOCK_REALTIME, &time)",
    "let offset = server - context.now()",
  ])
  func `an interval on the wall clock is found`(_ line: String) {
    let file = Repository.File(path: "Sources/X/X.swift", lines: [Substring("  " + line + "  // why")])
    let found = violations(in: [file], exceptions: [], Self.usesWallClock)
    #expect(found == ["Sources/X/X.swift:1: \(line)"])
  }

  @Test(arguments: ["report.write(time: now())", "let now = context.uptime(), elapsed = now - start", "// now() - x"])
  func `a time stamp and monotonic time are not`(_ line: String) {
    let file = Repository.File(path: "Sources/X/X.swift", lines: [Substring(line)])
    #expect(violations(in: [file], exceptions: [], Self.usesWallClock).isEmpty)
  }

  @Test func `an exception that excuses nothing is reported`() {
    let file = Repository.File(path: "Sources/X/X.swift", lines: ["let a = now()"])
    let exceptions = [
      Exception("X.swift", "let a", "x"), Exception("X.swift", "let b", "x"), Exception("Y.swift", "let a", "x"),
    ]
    #expect(
      violations(in: [file], exceptions: exceptions, Self.usesWallClock) == [
        "the exception for X.swift, let b, excuses nothing", "the exception for Y.swift, let a, excuses nothing",
      ])
  }
}
