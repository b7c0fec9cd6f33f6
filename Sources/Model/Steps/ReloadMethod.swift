package import Base

/// How a running agent reloads its configuration.
package enum ReloadMethod: Sendable, Equatable {
  case command(Command)
  /// `PUT /v1/agent/reload`, for a container: after any `docker kill`, even with SIGHUP, Docker 20.10 treats the
  /// container as stopped manually and does not restart it after a crash.
  case api(agentAddress: String, token: Secret?)
}
