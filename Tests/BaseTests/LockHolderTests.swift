import Testing

@testable import Base

@Suite struct LockHolderTests {
  private static let list = """
    1: POSIX  ADVISORY  WRITE 10 fe:00:7 0 EOF
    2: FLOCK  ADVISORY  WRITE 11 fe:00:70 0 EOF
    3: FLOCK  ADVISORY  READ  12 fe:00:7 0 EOF
    4: -> FLOCK  ADVISORY  WRITE 13 fe:00:7 0 EOF
    5: FLOCK  ADVISORY  WRITE 14 fe:00:7 0 EOF
    6: FLOCK  ADVISORY  WRITE 0 fe:00:8 0 EOF
    7: FLOCK  ADVISORY  WRITE 99999999999 fe:00:9 0 EOF
    8: FLOCK ADVISORY
    """

  /// A waiting process, a lock of another kind, and a process of another namespace (0) hold nothing.
  @Test(arguments: [(7, 14), (70, 11), (8, nil), (9, nil), (10, nil)] as [(UInt64, Int32?)])
  func `the kernel's list names the holder`(_ inode: UInt64, _ holder: Int32?) {
    #expect(lockHolder(inode: inode, in: Self.list) == holder)
  }

  /// As Go's `Duration.String`: otherwise a value would differ from itself.
  @Test(arguments: [
    (0, "0s"), (1, "1ms"), (200, "200ms"), (1000, "1s"), (1500, "1.5s"), (1050, "1.05s"), (60_000, "1m0s"),
    (90_250, "1m30.25s"), (3_600_000, "1h0m0s"), (3_661_001, "1h1m1.001s"),
  ])
  func `durations are written as Consul writes them`(_ milliseconds: Int64, _ text: String) {
    #expect(Duration.milliseconds(milliseconds).canonicalGoText == text)
  }
}
