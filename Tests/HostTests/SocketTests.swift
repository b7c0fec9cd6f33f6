import Glibc
import Testing

@testable import Base
@testable import Host

private let here = IPv4Address("127.0.0.1")!

/// A UDP socket on a free port of 127.0.0.1.
private func datagramSocket() -> Descriptor {
  let number = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  precondition(withInternetAddress(here, 0) { bind(number, $0, $1) } == 0)
  return Descriptor(number)
}

/// Answers each datagram, until it gets an empty one, with `answer`; nil: with nothing.
private func answerDatagrams(
  _ socket: Descriptor, _ answer: @escaping @Sendable (ArraySlice<UInt8>) -> [UInt8]?
) throws {
  try startThread("answers") {
    var peer = sockaddr()
    var buffer = [UInt8](repeating: 0, count: 512)
    while true {
      var length = socklen_t(MemoryLayout<sockaddr>.size)
      let count = recvfrom(socket.number, &buffer, buffer.count, 0, &peer, &length)
      guard count > 0 else { return }
      if let bytes = answer(buffer[..<count]) { _ = sendto(socket.number, bytes, bytes.count, 0, &peer, length) }
    }
  }
}

private func stopAnswering(_ socket: Descriptor) {
  let sender = datagramSocket()
  _ = withInternetAddress(here, localPort(of: socket.number)) { sendto(sender.number, "", 0, 0, $0, $1) }
}

@Suite(.timeLimit(.minutes(5))) struct SocketProberTests {
  let prober = SocketProber()

  @Test func `a TCP port is open, closed, or no port`() async {
    let open = SilentPort()
    #expect(await prober.connect(here, port: Int64(open.port), timeout: .seconds(20)) == .open)
    #expect(await prober.connect(here, port: 1, timeout: .seconds(20)) == .refused)
    // Not port 1 again.
    #expect(await prober.connect(here, port: 65537, timeout: .seconds(20)) == .unreachable("Invalid argument"))
    #expect(prober.listenError(here, port: Int64(open.port), datagrams: false) == "Address already in use")
    #expect(prober.listenError(here, port: 0, datagrams: false) == nil)
    #expect(
      prober.listenError(IPv4Address("192.0.2.1")!, port: 0, datagrams: true) == "Cannot assign requested address")
  }

  @Test func `a UDP port answers, is silent, or is closed`() async throws {
    let answering = datagramSocket(), silent = datagramSocket()
    try answerDatagrams(answering) { Array($0) }
    defer { stopAnswering(answering) }
    let probe = { (port: UInt16, timeout: Duration) in
      await prober.probeDatagram(here, port: Int64(port), datagram: [1], timeout: timeout)
    }
    #expect(await probe(localPort(of: answering.number), .seconds(20)) == .open)
    #expect(await probe(localPort(of: silent.number), .milliseconds(20)) == .silent)
    #expect(await probe(1, .seconds(20)) == .refused)
  }
}

@Suite(.timeLimit(.minutes(5))) struct AresResolverTests {
  /// The question, with one A record behind it (RFC 1035 section 4.1).
  private static func answer(_ question: ArraySlice<UInt8>, _ address: [UInt8]) -> [UInt8] {
    var bytes = Array(question)
    bytes[2] = 0x81  // a response; recursion desired
    bytes[3] = 0x80  // recursion available, no error
    bytes[7] = 1  // one answer
    return bytes + [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4] + address
  }

  @Test func `a name server answers, denies, or is silent`() async throws {
    let server = datagramSocket()
    try answerDatagrams(server) { question in
      // The first label's first letter says what to do.
      switch question.dropFirst(13).first {
      case UInt8(ascii: "a"): return Self.answer(question, [10, 0, 1, 11])
      case UInt8(ascii: "d"):
        var bytes = Self.answer(question, [0, 0, 0, 0])
        bytes[3] = 0x83
        return bytes
      default: return nil
      }
    }
    defer { stopAnswering(server) }
    let addresses = { (name: String, timeout: Duration) in
      try await AresResolver().addresses(
        of: name, server: here, port: Int64(localPort(of: server.number)), timeout: timeout)
    }
    #expect(try await addresses("answered.example", .seconds(20)) == [IPv4Address("10.0.1.11")!])
    await #expect(throws: NameError("Domain name not found")) {
      try await addresses("denied.example", .seconds(20))
    }
    await #expect(throws: NameError("Timeout while contacting DNS servers")) {
      try await addresses("silent.example", .milliseconds(20))
    }
  }

  /// In a process of its own. The loop used select, which corrupts memory from the 1024th descriptor on.
  @Test func `a process with a thousand descriptors resolves names, too`() async {
    await #expect(processExitsWith: .success) {
      let server = datagramSocket()
      try answerDatagrams(server) { Self.answer($0, [10, 0, 1, 11]) }
      var limit = rlimit()
      try #require(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 && limit.rlim_max > 1100)
      limit.rlim_cur = 1100
      try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
      while dup(0) < 1030 {}
      let addresses = try await AresResolver().addresses(
        of: "answered.example", server: here, port: Int64(localPort(of: server.number)), timeout: .seconds(20))
      expect("addresses", addresses, is: [IPv4Address("10.0.1.11")!])
    }
  }
}
