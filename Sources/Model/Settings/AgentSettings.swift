package import Base

extension Settings {
  /// How the agent runs.
  package enum Start: String, Sendable, CaseIterable {
    /// As `consul.service`.
    case systemd
    /// As a child process of this program.
    case supervise
    /// In a container.
    case docker
    /// Not at all: only the configuration is written.
    case none
  }

  /// How the agent runs on this machine.
  package func start(isBootedBySystemd: Bool) -> Start { start ?? (isBootedBySystemd ? .systemd : .supervise) }

  /// Where the agent sends its metrics.
  package struct Telemetry: Sendable, Equatable {
    package enum Sink: String, Sendable, CaseIterable { case statsd, dogstatsd, statsite, prometheus }

    package let sink: Sink
    /// `HOST:PORT`, for Prometheus the retention time.
    package let value: String

    package init(sink: Sink, value: String) {
      self.sink = sink
      self.value = value
    }
  }

  /// A document merged over the configuration. It may hold secrets, such as ACL tokens.
  package struct Overlay: Sendable, Equatable {
    /// The option that names it, for messages: `--merge /etc/x.json`, `--set ports.dns`.
    package let origin: String
    package let value: SecretDocument

    package init(origin: String, value: JSONValue) {
      self.origin = origin
      self.value = SecretDocument(value)
    }
  }
}
