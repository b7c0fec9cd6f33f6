import Glibc
import Testing

@testable import Base
@testable import Host

private let here = IPv4Address("127.0.0.1")!

/// What the adapters do when the kernel gives this process no more descriptors or threads. A trap would end the
/// process, and under `supervise` the agent with it. Each body runs in a process of its own.
@Suite(.timeLimit(.minutes(5))) struct ExhaustionTests {
  @Test func `without descriptors every adapter reports an error, and works again later`() async {
    await #expect(processExitsWith: .success) {
      // libdispatch looks at its worker threads each second, and traps where it cannot open their files: among all the
      // other tests this one takes longer than that, unless it comes first. Without the right to it, it does not.
      _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, -20)
      let launcher = PosixProcessLauncher(environment: [:]), transport = CurlTransport(caBundle: nil)
      let request = HTTPRequest("GET", "http://127.0.0.1:1/"), command = Command("/bin/true", [])
      let reason = "Too many open files"
      // The runtime's own descriptors, for timers: libdispatch traps where it cannot open them.
      try await Task.sleep(for: .milliseconds(1))
      limitDescriptors(to: 3)

      try await withTaskExecutorPreference(OwnThread()) {
        await expect("transport", throws: TransportError.other("cannot create a pipe: \(reason)")) {
          _ = try await transport.send(request)
        }
        let launchError = LaunchError(program: "/bin/true", stage: "create a pipe for", reason: reason)
        await expect("run", throws: launchError) { _ = try await launcher.run(command, timeout: .seconds(20)) }
        await expect("follow", throws: launchError) { _ = try launcher.follow(command) }
        await expect("text server", throws: FileError("listen on", "127.0.0.1:1", number: EMFILE)) {
          _ = try LocalTextServer().serve(at: .loopback(port: 1)) { "" }
        }
        let prober = SocketProber()
        expect("TCP", await prober.connect(here, port: 1, timeout: .seconds(20)), is: .unreachable(reason))
        expect(
          "UDP", await prober.probeDatagram(here, port: 1, datagram: [], timeout: .seconds(20)),
          is: .unreachable(reason))
        // It was nil: the port counted as free.
        expect("listen", prober.listenError(here, port: 1, datagrams: true), is: reason)
        await expect("resolver", throws: NameError("Could not contact DNS servers")) {
          _ = try await AresResolver().addresses(of: "a.example", server: here, port: 1, timeout: .seconds(1))
        }
        // It was nil: no such user, so that the agent ran as root.
        await expect("user", throws: FileError("read", "/etc/passwd", number: EMFILE)) {
          _ = try LocalSystem().owner(named: "root")
        }
        await expect("interface", throws: FileError("list addresses of", "lo", number: EMFILE)) {
          _ = try LocalSystem().address(ofInterface: "lo")
        }
        await expect("signals", throws: ResourceError(resource: "a pipe", number: EMFILE)) { _ = try Signals() }

        // One descriptor more, then another: nothing in between traps either.
        var limit: UInt = 3
        var end: ProcessEnd?
        while end == nil, limit < 200 {
          limit += 1
          limitDescriptors(to: limit)
          do {
            end = try await launcher.run(command, timeout: .seconds(20)).end
          } catch let error as LaunchError {
            expect("reason", error.reason, is: reason)
          }
        }
        expect("run", end, is: .exited(0))
        var isRefused = false
        limit = 3
        while !isRefused, limit < 200 {
          limit += 1
          limitDescriptors(to: limit)
          do {
            _ = try await transport.send(request)
          } catch TransportError.refused {
            isRefused = true
          } catch let error as TransportError {
            guard case .other = error else { throw error }
          }
        }
        expect("transport works again", isRefused, is: true)
        expect("user", try LocalSystem().owner(named: "root")?.user, is: 0)
      }
    }
  }

  @Test func `without threads every adapter reports an error`() async {
    await #expect(processExitsWith: .success) {
      let launcher = PosixProcessLauncher(environment: [:]), transport = CurlTransport(caBundle: nil)
      let command = Command("/bin/true", []), reason = "Resource temporarily unavailable"
      try await Task.sleep(for: .milliseconds(1))
      let before = openDescriptors()
      takeAllThreads()

      await expect("transport", throws: TransportError.other("cannot create a thread: \(reason)")) {
        _ = try await transport.send(HTTPRequest("GET", "http://127.0.0.1:1/"))
      }
      let launchError = LaunchError(program: "/bin/true", stage: "create a thread for", reason: reason)
      await expect("run", throws: launchError) { _ = try await launcher.run(command, timeout: .seconds(20)) }
      await expect("follow", throws: launchError) { _ = try launcher.follow(command) }
      let listenError = FileError(
        "listen on", "127.0.0.1:0", errno: EAGAIN, reason: "cannot create a thread: \(reason)")
      await expect("text server", throws: listenError) {
        _ = try LocalTextServer().serve(at: .loopback(port: 0)) { "" }
      }
      let prober = SocketProber(), unreachable = ProbeResult.unreachable("cannot create a thread: \(reason)")
      expect("TCP", await prober.connect(here, port: 1, timeout: .seconds(20)), is: unreachable)
      expect("UDP", await prober.probeDatagram(here, port: 1, datagram: [], timeout: .seconds(20)), is: unreachable)
      await expect("resolver", throws: NameError("cannot create a thread: \(reason)")) {
        _ = try await AresResolver().addresses(of: "a.example", server: here, port: 1, timeout: .seconds(1))
      }
      await expect("signals", throws: ResourceError(resource: "a thread", number: EAGAIN)) { _ = try Signals() }
      // None of the failed attempts keeps its pipes or sockets.
      expect("descriptors", openDescriptors(), is: before)
    }
  }

  @Test func `a thread that cannot start is an error`() {
    #expect(throws: ResourceError(resource: "a thread", number: EAGAIN)) {
      try startThread("huge", stackSize: 1 << 46) {}
    }
    #expect(throws: ResourceError(resource: "a thread", number: EINVAL)) {
      try startThread("tiny", stackSize: 1) {}
    }
    #expect(
      ResourceError(resource: "a thread", number: EAGAIN).explanation
        == "cannot create a thread: Resource temporarily unavailable")
  }
}
